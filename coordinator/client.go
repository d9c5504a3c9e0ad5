package coordinator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
)

// ErrNoAgent is wrapped when nothing listens at the socket.
var ErrNoAgent = errors.New("no agent at the socket")

// RemoteError is an agent's refusal of a request.
type RemoteError struct {
	Message string `json:"error"`
	// Hint is the way out, if there is one.
	Hint string `json:"hint,omitempty"`
	// Misuse: the request itself is wrong, whatever the cluster's state.
	Misuse bool `json:"misuse,omitempty"`
	// NoLeader: nothing was done, and another node, or this one later, may.
	NoLeader bool `json:"no_leader,omitempty"`
	// Unknown: whether it was done is not known. It can be asked for again.
	Unknown bool `json:"unknown,omitempty"`
}

// Error is the refusal without the hint.
func (e *RemoteError) Error() string { return e.Message }

// Client talks to an agent over its Unix socket.
type Client struct {
	socket string
	http   http.Client
}

// NewClient returns a client of the agent at the socket. It connects with
// each request.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// Status asks for the cluster's status, as the leader sees it if there is one.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.do(ctx, http.MethodGet, "/v1/status", nil, &s)
	return s, err
}

// Which asks who answers a client, "192.0.2.7" or "192.0.2.7:4711". The
// service's port matters only if its hash mode names it and it has several:
// port is then "tcp/443", else it may be empty.
func (c *Client) Which(ctx context.Context, service, client, port string) (Which, error) {
	var w Which
	q := url.Values{"service": {service}, "client": {client}, "port": {port}}
	err := c.do(ctx, http.MethodGet, "/v1/which?"+q.Encode(), nil, &w)
	return w, err
}

// WishRequest is the body of a request to take a node out or bring it in. An
// empty name is the node that is asked.
type WishRequest struct {
	Node string `json:"node"`
	Out  bool   `json:"out"`
	Cut  bool   `json:"cut,omitempty"`
}

// Wish takes a node out or brings it in. It returns the node's name once the
// wish is committed; the moves follow.
func (c *Client) Wish(ctx context.Context, r WishRequest) (string, error) {
	var node struct{ Node string }
	err := c.do(ctx, http.MethodPost, "/v1/wish", r, &node)
	return node.Node, err
}

// MoveRequest is the body of a request to pin buckets to a node, or, with an
// empty node, to unpin them.
type MoveRequest struct {
	Service string `json:"service"`
	Buckets string `json:"buckets"`
	Node    string `json:"node"`
}

// Move pins buckets to a node.
func (c *Client) Move(ctx context.Context, r MoveRequest) error {
	return c.do(ctx, http.MethodPost, "/v1/move", r, nil)
}

// ForgetRequest is the body of a request to forget a node.
type ForgetRequest struct {
	Node string `json:"node"`
}

// Forget takes a node that never comes back out of the cluster.
func (c *Client) Forget(ctx context.Context, r ForgetRequest) error {
	return c.do(ctx, http.MethodPost, "/v1/forget", r, nil)
}

// Examine has the nodes exchange test frames; it takes some seconds.
func (c *Client) Examine(ctx context.Context) (Examination, error) {
	var e Examination
	err := c.do(ctx, http.MethodPost, "/v1/examine", struct{}{}, &e)
	return e, err
}

func (c *Client) do(ctx context.Context, method, path string, body, answer any) error {
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	return decodeAnswer(resp, answer)
}

// send asks the agent and returns its answer, whatever it says.
func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	resp, err := c.http.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w %s", ErrNoAgent, c.socket)
	case err != nil:
		return nil, fmt.Errorf("ask agent at %s: %w", c.socket, errors.Unwrap(err))
	}
	return resp, nil
}

// maxAnswer bounds what is read of an answer: a map of 65,536 buckets with as
// many ranges is below it.
const maxAnswer = 16 << 20

// decodeAnswer reads a JSON answer, or the refusal in its place, and closes the
// body.
func decodeAnswer(resp *http.Response, answer any) error {
	body := io.LimitReader(resp.Body, maxAnswer)
	defer func() {
		_, _ = io.Copy(io.Discard, body) // only a body read to its end leaves the connection usable
		resp.Body.Close()
	}()
	dec := json.NewDecoder(body)
	if resp.StatusCode == http.StatusNotFound && resp.Request != nil {
		return &RemoteError{
			Message: fmt.Sprintf("the agent asked does not know of %s: its version is older", resp.Request.URL.Path),
			Hint:    "`earshot status` shows the nodes' versions; upgrade the older ones first",
		}
	}
	if resp.StatusCode != http.StatusOK {
		refusal := &RemoteError{}
		if err := dec.Decode(refusal); err != nil || refusal.Message == "" {
			return fmt.Errorf("ask agent: %s", resp.Status)
		}
		return refusal
	}
	if answer == nil {
		return nil
	}
	if err := dec.Decode(answer); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}
