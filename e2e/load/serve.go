package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"earshot/e2e/lab"

	"golang.org/x/sync/errgroup"
)

// nodeHeader carries the answering node's name.
const nodeHeader = "X-Earshot-Node"

// Service is what a Server offers.
type Service struct {
	Name string   // told to every client
	HTTP []string // addresses to listen at, ":80"
	UDP  []string // addresses to echo at, ":7000"
	// Alive is the file that is served as /alive.html; empty: the page is
	// always there.
	Alive string
	Talk  []string // addresses of open sessions (Keys, Download, HalfClosed), ":22"
}

// Server is a running server process.
type Server struct{ *child }

// ready is the one line that a server writes.
type ready struct{ Ready bool }

// Serve starts a server in the namespace and returns when it listens.
func Serve(n *lab.Namespace, s Service) (*Server, error) {
	c, err := order(n, roleServe, s, "")
	if err != nil {
		return nil, err
	}
	var r ready
	if err := c.lines.Decode(&r); err != nil {
		c.close()
		return nil, fmt.Errorf("start server in %s: %w", n.Name, err)
	}
	// Holds the leash, too: a server that nobody keeps must not be let go by
	// the garbage collector.
	go func() {
		<-c.Done()
		c.close()
	}()
	return &Server{c}, nil
}

// Close ends the server and its connections.
func (s *Server) Close() error { return s.Kill() }

// serve is the server process.
func serve(s Service, leash io.Reader, out *json.Encoder) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	server := &http.Server{Handler: handler(s), ReadHeaderTimeout: time.Minute}
	for _, address := range s.HTTP {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		group.Go(func() error { return server.Serve(ln) })
	}
	for _, address := range s.Talk {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		group.Go(func() error { return talk(ctx, ln, s.Name) })
		context.AfterFunc(ctx, func() { ln.Close() })
	}
	for _, address := range s.UDP {
		conns, err := listenEcho(address)
		if err != nil {
			return err
		}
		for _, conn := range conns {
			group.Go(func() error { return echo(conn, s.Name) })
			context.AfterFunc(ctx, func() { _ = conn.Close() })
		}
	}
	go func() {
		_, _ = io.Copy(io.Discard, leash) // until the parent lets go
		cancel()
	}()
	context.AfterFunc(ctx, func() { server.Close() })
	if err := out.Encode(ready{true}); err != nil {
		return err
	}
	<-ctx.Done()
	if err := group.Wait(); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// handler answers with the node's name in a header and in the body.
func handler(s Service) http.Handler {
	name := s.Name
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(nodeHeader, name)
		fmt.Fprintln(w, name)
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(nodeHeader, name)
		if err := download(r.Context(), w, r.FormValue("for"), r.FormValue("bytes")); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	mux.HandleFunc(socketPath, answerSocket(s.Name))
	// The page and the word of the seeds' health check.
	mux.HandleFunc("/alive.html", func(w http.ResponseWriter, r *http.Request) {
		if s.Alive != "" {
			http.ServeFile(w, r, s.Alive)
			return
		}
		fmt.Fprintln(w, "foobar3000")
	})
	return mux
}

// downloadStep is the time between two pieces of a slow download.
const downloadStep = 20 * time.Millisecond

// download writes size bytes evenly over a time.
func download(ctx context.Context, w http.ResponseWriter, lasts, size string) error {
	span, err := time.ParseDuration(lasts)
	if err != nil {
		return err
	}
	total, err := strconv.Atoi(size)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Length", size)
	pieces := int(span/downloadStep) + 1
	tick := time.NewTicker(downloadStep)
	defer tick.Stop()
	for i := range pieces {
		n := total*(i+1)/pieces - total*i/pieces
		if _, err := w.Write(make([]byte, n)); err != nil {
			return nil // the client has gone: nobody to tell. So below.
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
	return nil
}
