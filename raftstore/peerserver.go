package raftstore

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// peerServer is an HTTP server that can wait for its handlers.
type peerServer struct {
	*http.Server
	mu      sync.Mutex
	closing bool
	calls   sync.WaitGroup
}

// peerConn hides from net/http that a connection is TLS: it serves nothing on
// one whose ALPN it does not know.
type peerConn struct {
	net.Conn
	state tls.ConnectionState
}

type stateKey struct{}

// newPeerServer returns a server for peers that have shown the key.
func newPeerServer(handler http.Handler, log *slog.Logger) *peerServer {
	p := &peerServer{}
	p.Server = &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if c, ok := c.(peerConn); ok {
				return context.WithValue(ctx, stateKey{}, c.state)
			}
			return ctx
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !p.begin() {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			defer p.calls.Done()
			if state, ok := r.Context().Value(stateKey{}).(tls.ConnectionState); ok {
				r.TLS = &state
			}
			handler.ServeHTTP(w, r)
		}),
	}
	return p
}

// begin counts a call, unless the server is closing.
func (p *peerServer) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return false
	}
	p.calls.Add(1)
	return true
}

// close ends the server. It closes the connections, which ends the contexts of
// the calls that are under way.
func (p *peerServer) close() {
	p.mu.Lock()
	p.closing = true
	p.mu.Unlock()
	_ = p.Close() // the listener's own Close never fails
}

// wait returns when no call is under way.
func (p *peerServer) wait() { p.calls.Wait() }
