package sim

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"time"
)

type handler = http.Handler

// apiPort carries a process's requests to the peers' HTTP handlers.
type apiPort struct{ *process }

// RoundTrip implements http.RoundTripper.
func (a apiPort) RoundTrip(r *http.Request) (*http.Response, error) {
	if !a.pass() {
		return nil, errGone
	}
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
	}
	w := a.node.world
	target := w.at(r.URL.Host)
	if target == nil {
		return nil, errUnreachable
	}
	serve := func(giveUp <-chan struct{}) (*answer, error) {
		return ask(target, r, body, giveUp)
	}
	if w.network.doubles() {
		w.after(w.rng.upTo(2*w.timing.Lease), func() {
			done := make(chan struct{})
			w.after(time.Second, func() { close(done) })
			_, _ = serve(done)
		})
	}
	giveUp := r.Context().Done()
	if err := w.network.carry(a.node.i, target.i, giveUp); err != nil {
		return nil, err
	}
	got, err := serve(giveUp)
	if err == nil {
		err = w.network.carry(target.i, a.node.i, giveUp)
	}
	if !a.pass() {
		return nil, errGone
	}
	if err != nil {
		return nil, err
	}
	return &http.Response{
		Status: http.StatusText(got.status), StatusCode: got.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: got.header, Body: io.NopCloser(&got.body), ContentLength: int64(got.body.Len()), Request: r,
	}, nil
}

// ask has the target's handler answer. When the caller gives up, so does the
// handler's context, as that of a connection that breaks.
func ask(target *node, r *http.Request, body []byte, giveUp <-chan struct{}) (*answer, error) {
	p := target.running()
	if p == nil {
		return nil, errUnreachable
	}
	if err := p.passBy(giveUp); err != nil {
		return nil, err
	}
	p.mu.Lock()
	h := p.api
	p.mu.Unlock()
	if h == nil {
		return nil, errUnreachable
	}
	ctx, cancel := context.WithCancel(context.Background())
	q := &http.Request{
		Method: r.Method, URL: r.URL, Header: r.Header, Host: r.Host, RequestURI: r.URL.RequestURI(),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
	done := make(chan *answer, 1)
	go func() {
		defer cancel()
		got := &answer{status: http.StatusOK, header: http.Header{}}
		h.ServeHTTP(got, q.WithContext(ctx))
		p.pass()
		done <- got
	}()
	select {
	case got := <-done:
		if !p.alive() {
			return nil, errUnreachable
		}
		return got, nil
	case <-giveUp:
		cancel()
		return nil, errLate
	case <-p.gone:
		cancel()
		return nil, errUnreachable
	}
}

// answer is an http.ResponseWriter.
type answer struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }
