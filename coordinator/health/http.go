package health

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// httpQuestion is what an HTTP server is asked, and what it must answer.
type httpQuestion struct {
	url       string
	method    string
	host      string // in the request, and of the certificate; "": that of the url
	statuses  statuses
	expect    expectation
	unproved  bool // the server's certificate may be any
	redirects bool // are followed
}

const (
	// maxRedirects is how many redirects a check follows where it does.
	maxRedirects = 5
	// maxContinues is how often a server may say "100 Continue" first.
	maxContinues = 5
)

// probe returns the probe.
func (q httpQuestion) probe() probe {
	client := &http.Client{Transport: q, CheckRedirect: q.redirect}
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, q.method, q.url, http.NoBody)
		if err != nil {
			return err
		}
		request.Host = q.host
		request.Header.Set("User-Agent", "earshot-check")
		request.Close = true
		answer, err := client.Do(request)
		if err != nil {
			var wrapped *url.Error // says the URL again, which is in the check's name
			if errors.As(err, &wrapped) {
				err = wrapped.Err
			}
			return inTime(ctx, err)
		}
		defer answer.Body.Close()
		return q.judge(ctx, answer)
	}
}

func (q httpQuestion) redirect(_ *http.Request, via []*http.Request) error {
	switch {
	case !q.redirects:
		return http.ErrUseLastResponse
	case len(via) > maxRedirects:
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	return nil
}

// judge reads an answer to its end: a server that dies half-way is ill.
func (q httpQuestion) judge(ctx context.Context, answer *http.Response) error {
	if !q.statuses.have(answer.StatusCode) {
		return fmt.Errorf("status is %d, not %s", answer.StatusCode, q.statuses)
	}
	body, err := readBounded(answer.Body, maxAnswer, "the answer")
	if err != nil {
		return inTime(ctx, err)
	}
	return q.expect.in(body, "the answer")
}

// RoundTrip asks over a connection of its own: one that is open says nothing
// of a server that takes no new ones. The library's Transport would do but for
// a server that speaks before it is asked: its words go to standard error.
func (q httpQuestion) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx := request.Context()
	conn, err := q.connect(ctx, request.URL)
	if err != nil {
		return nil, err
	}
	answer, err := exchange(conn, request)
	if err != nil {
		conn.Close()
		return nil, inTime(ctx, err)
	}
	return answer, nil
}

// connect dials, and agrees on TLS where the URL says so.
func (q httpQuestion) connect(ctx context.Context, u *url.URL) (net.Conn, error) {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	conn, err := dial(ctx, net.JoinHostPort(u.Hostname(), port))
	if err != nil || u.Scheme != "https" {
		return conn, err
	}
	name := q.host
	if host, _, err := net.SplitHostPort(q.host); err == nil {
		name = host
	}
	if name == "" {
		name = u.Hostname()
	}
	secure := tls.Client(conn, &tls.Config{ServerName: name, InsecureSkipVerify: q.unproved}) // as configured
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, inTime(ctx, err)
	}
	return secure, nil
}

// exchange sends the request and reads the header of the answer.
func exchange(conn net.Conn, request *http.Request) (*http.Response, error) {
	if err := request.Write(conn); err != nil {
		return nil, err
	}
	limited := &io.LimitedReader{R: conn, N: maxHeader}
	in := bufio.NewReader(limited)
	for range maxContinues {
		answer, err := http.ReadResponse(in, request)
		switch {
		case err != nil && limited.N == 0:
			return nil, fmt.Errorf("the header %w %d KiB", errTooLong, maxHeader>>10)
		case err != nil:
			return nil, err
		case answer.StatusCode >= http.StatusOK || answer.StatusCode == http.StatusSwitchingProtocols:
			limited.N = 2 * maxAnswer // of which the reader takes half
			answer.Body = &closer{answer.Body, conn}
			return answer, nil
		}
	}
	return nil, fmt.Errorf("says to continue more than %d times", maxContinues)
}

// closer is a body that takes its connection with it.
type closer struct {
	io.Reader
	conn net.Conn
}

func (c *closer) Close() error { return c.conn.Close() }
