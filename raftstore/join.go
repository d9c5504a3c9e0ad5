package raftstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"
)

const (
	pathHello = "/form/hello"
	pathJoin  = "/form/join"
	// pathJoin2 is the same for what a cluster of format 1 cannot take in: it
	// answers 404 there.
	pathJoin2 = "/form/2/join"
	// answerMax bounds what is read of a request or an answer below /form/.
	answerMax = 1 << 20
	// joinTime is how long the leader may take to admit a node.
	joinTime = 10 * time.Second
	// hopHeader marks a join that a member has passed on to the leader.
	hopHeader = "Earshot-Hop"
)

// errNoLeader: nobody can decide about a join at the moment.
var errNoLeader = errors.New("no leader")

// kinds are the errors that keep their meaning from node to node.
func kinds() map[string]error {
	return map[string]error{
		"name-taken":    ErrNameTaken,
		"replaced":      ErrReplaced,
		"other-node":    ErrOtherNode,
		"address-taken": ErrAddressTaken,
		"no-leader":     errNoLeader,
		"forgotten":     ErrForgotten,
		"too-old":       ErrTooOld,
		"old-member":    ErrOldMember,
	}
}

// failure is an error on its way to another node.
type failure struct {
	Kind string `json:"kind,omitempty"`
	Text string `json:"error"`
}

// remoteError is an error that another node has sent.
type remoteError struct {
	text string
	kind error // nil for one of no special meaning
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }

// handler answers HTTP requests of the peers.
func (s *Store) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathHello, s.serveHello)
	mux.HandleFunc("POST "+pathJoin, s.serveJoin)
	mux.HandleFunc("POST "+pathJoin2, s.serveJoin)
	mux.HandleFunc("/form/", http.NotFound)
	if s.hooks.API != nil {
		mux.Handle("/", s.hooks.API)
	}
	return mux
}

// serve has the handler answer at the peer port until the context ends.
func (s *Store) serve(ctx context.Context) error {
	server := newPeerServer(s.handler(), s.log)
	stop := context.AfterFunc(ctx, server.close)
	defer stop()
	err := server.Serve(s.port.http)
	server.wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve peers: %w", err)
}

// self is what this node says of itself.
func (s *Store) self() hello {
	rec := s.disk.record()
	return hello{
		Name:     rec.Name,
		ServerID: rec.ServerID,
		Listen:   s.Addr(),
		Peers:    s.options.Peers,
		Member:   s.logs.used.Load(),
		Promise:  rec.Promise,
		Leader:   s.Leadership().Addr,
	}
}

func (s *Store) serveHello(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, s.self())
}

// serveJoin admits a node, or passes its request on to the leader.
func (s *Store) serveJoin(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, answerMax))
	var join request
	if err == nil {
		err = json.Unmarshal(body, &join)
	}
	if err != nil {
		answer(w, http.StatusBadRequest, failure{Text: fmt.Sprintf("read join request: %v", err)})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), joinTime)
	defer cancel()
	leader := s.Leadership()
	switch {
	case leader.Self:
		err = s.receive(ctx, join)
	case leader.Addr == "" || r.Header.Get(hopHeader) != "":
		err = errNoLeader
	default:
		err = s.post(ctx, leader.Addr, join, true)
	}
	if err != nil {
		answer(w, http.StatusConflict, toFailure(err))
		return
	}
	answer(w, http.StatusOK, struct{}{})
}

// toFailure makes an error fit for another node.
func toFailure(err error) failure {
	if errors.Is(err, ErrNotLeader) {
		return failure{Kind: "no-leader", Text: err.Error()}
	}
	for kind, sentinel := range kinds() {
		if errors.Is(err, sentinel) {
			return failure{Kind: kind, Text: err.Error()}
		}
	}
	return failure{Text: err.Error()}
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the peer is gone, then
}

// greet asks the node at an address what it is.
func (s *Store) greet(ctx context.Context, address string) (hello, error) {
	ctx, cancel := context.WithTimeout(ctx, s.dialer.timeout+callTime(s.options.Lease))
	defer cancel()
	var h hello
	if err := s.call(ctx, http.MethodGet, address, pathHello, nil, &h); err != nil {
		return hello{}, fmt.Errorf("greet %s: %w", address, err)
	}
	return h, nil
}

// post sends a join request to a member.
func (s *Store) post(ctx context.Context, address string, r request, hop bool) error {
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write join request: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	header := http.Header{}
	if hop {
		header.Set(hopHeader, "1")
	}
	path := pathJoin
	if r.Witness {
		path = pathJoin2
	}
	return s.send(ctx, http.MethodPost, address, path, header, body, &struct{}{})
}

func (s *Store) call(ctx context.Context, method, address, path string, body []byte, into any) error {
	return s.send(ctx, method, address, path, nil, body, into)
}

// send makes a request below /form/ and reads the answer.
func (s *Store) send(ctx context.Context, method, address, path string, header http.Header, body []byte, into any) error {
	q, err := http.NewRequestWithContext(ctx, method, "https://"+address+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	for name, values := range header {
		q.Header[name] = values
	}
	a, err := s.client.Do(q)
	if err != nil {
		if errors.Is(err, ErrWrongKey) {
			s.notes.say(slog.LevelWarn, "key "+address, "peer "+address+" has another cluster key")
		}
		return err
	}
	defer a.Body.Close()
	data := io.LimitReader(a.Body, answerMax)
	if a.StatusCode == http.StatusOK {
		return json.NewDecoder(data).Decode(into)
	}
	if a.StatusCode == http.StatusNotFound && path == pathJoin2 {
		return fmt.Errorf("join as a witness: %w: the one at %s does not know of witnesses", ErrOldMember, address)
	}
	var f failure
	if err := json.NewDecoder(data).Decode(&f); err != nil || f.Text == "" {
		return fmt.Errorf("peer %s answers %s", address, a.Status)
	}
	return &remoteError{text: f.Text, kind: kinds()[f.Kind]}
}
