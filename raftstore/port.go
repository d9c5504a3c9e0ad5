package raftstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// handshakeTime bounds a connection that has not shown the key yet.
	handshakeTime = 3 * time.Second
	// handshakes bounds how many of these there are, and handshakesEach how
	// many from one address, so that one host cannot shut the others out.
	handshakes     = 256
	handshakesEach = 32
	// connections bounds all connections, those of peers included.
	connections = 1024
	// acceptPause is the wait after a failed accept, such as for want of file
	// descriptors.
	acceptPause = 50 * time.Millisecond
)

// port is the one TCP port of a node. It takes connections, has them show the
// cluster key, and hands them to Raft or to the HTTP server by ALPN.
type port struct {
	listener net.Listener
	tls      *tls.Config
	notes    *notes
	http     *inlet

	mu      sync.Mutex
	raft    *inlet // nil while Raft does not run
	open    map[*conn]struct{}
	waiting map[netip.Addr]int
	pending int
}

// conn is an accepted connection that tells the port of its end.
type conn struct {
	net.Conn
	once sync.Once
	done func()
}

// Close implements net.Conn.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.done)
	return err
}

// listen opens the port on an address ip:port.
func listen(address string, config *tls.Config, notes *notes) (*port, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for peers: %w", err)
	}
	return &port{
		listener: l,
		tls:      config,
		notes:    notes,
		http:     newInlet(l.Addr()),
		open:     map[*conn]struct{}{},
		waiting:  map[netip.Addr]int{},
	}, nil
}

// run accepts connections until the context ends. Then it closes every one
// that is left and waits for its own goroutines.
func (p *port) run(ctx context.Context) error {
	var group sync.WaitGroup
	stop := context.AfterFunc(ctx, func() { p.listener.Close() })
	defer stop()
	for ctx.Err() == nil {
		raw, err := p.listener.Accept()
		if err != nil && ctx.Err() != nil {
			break
		}
		if err != nil {
			p.notes.say(slog.LevelWarn, "accept", "cannot accept peers", "error", err)
			pause(ctx, acceptPause)
			continue
		}
		c, err := p.admit(raw)
		if err != nil {
			p.notes.say(slog.LevelWarn, "limit", "refused a connection", "peer", raw.RemoteAddr(), "error", err)
			raw.Close()
			continue
		}
		group.Go(func() { p.welcome(ctx, c) })
	}
	p.http.Close()
	for _, c := range p.connections() {
		c.Close()
	}
	group.Wait()
	return nil
}

// pause waits for d, or for the end of the context.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

var (
	errFull     = errors.New("too many connections")
	errFullEach = errors.New("too many connections without a key from this address")
)

// admit counts a new connection, if there is room for it.
func (p *port) admit(raw net.Conn) (*conn, error) {
	from := remote(raw)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case len(p.open) >= connections || p.pending >= handshakes:
		return nil, errFull
	case p.waiting[from] >= handshakesEach:
		return nil, errFullEach
	}
	c := &conn{Conn: raw}
	c.done = func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.open, c)
	}
	p.open[c] = struct{}{}
	p.pending++
	p.waiting[from]++
	return c, nil
}

// decided says that a connection has shown the key, or failed to.
func (p *port) decided(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending--
	from := remote(c)
	if p.waiting[from]--; p.waiting[from] == 0 {
		delete(p.waiting, from)
	}
}

func remote(c net.Conn) netip.Addr {
	a, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap()
}

func (p *port) connections() []*conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*conn
	for c := range p.open {
		all = append(all, c)
	}
	return all
}

// welcome has a connection shake hands and passes it on.
func (p *port) welcome(ctx context.Context, c *conn) {
	secured := tls.Server(c, p.tls)
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	err := secured.HandshakeContext(ctx)
	p.decided(c)
	if err != nil {
		c.Close()
		p.refused(ctx, c.RemoteAddr(), err)
		return
	}
	state := secured.ConnectionState()
	switch state.NegotiatedProtocol {
	case protoPeer:
		p.http.put(peerConn{secured, state})
	case protoRaft:
		p.raftInlet().put(secured)
	default:
		secured.Close()
	}
}

// refused logs a failed handshake, unless it is the ordinary course of things.
func (p *port) refused(ctx context.Context, peer net.Addr, err error) {
	host, _, splitErr := net.SplitHostPort(peer.String())
	if splitErr != nil {
		host = peer.String()
	}
	switch err = explain(host, err); {
	case errors.Is(ctx.Err(), context.Canceled):
	case errors.Is(err, ErrWrongKey):
		p.notes.say(slog.LevelWarn, "key "+host, "refused a peer", "error", err)
	case errors.Is(err, errOtherServer):
		p.notes.say(slog.LevelDebug, "other", "refused a peer", "peer", host, "error", err)
	default:
		p.notes.say(slog.LevelInfo, "handshake", "refused a connection", "peer", host, "error", err)
	}
}

// openRaft lets Raft have its connections from now on.
func (p *port) openRaft() *inlet {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.raft = newInlet(p.listener.Addr())
	return p.raft
}

// closeRaft ends that.
func (p *port) closeRaft() {
	if p == nil {
		return // a model of the network is closed by the transport alone
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.raft = nil
}

func (p *port) raftInlet() *inlet {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.raft
}

// inlet is a net.Listener for connections that come from the port.
type inlet struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newInlet(addr net.Addr) *inlet {
	return &inlet{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// put hands over a connection, or closes it when nobody will take it. There
// is no inlet while Raft does not run.
func (i *inlet) put(c net.Conn) {
	if i == nil {
		c.Close()
		return
	}
	select {
	case i.conns <- c:
	case <-i.closed:
		c.Close()
	}
}

// Accept implements net.Listener.
func (i *inlet) Accept() (net.Conn, error) {
	select {
	case c := <-i.conns:
		return c, nil
	case <-i.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (i *inlet) Close() error {
	i.once.Do(func() { close(i.closed) })
	return nil
}

// Addr implements net.Listener.
func (i *inlet) Addr() net.Addr { return i.addr }
