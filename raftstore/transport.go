package raftstore

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	// idlePool is how many idle connections to a peer are kept: a heartbeat,
	// an append and a vote may be under way at once.
	idlePool = 3
	// snapshotRate is the number of bytes of a snapshot that one timeout of a
	// call is given for. It is low, since a slow disk counts in.
	snapshotRate = 4096
)

// dialTime is how long a connection to a peer may take. It is short, so that
// after a partition nobody waits for TCP's retransmission of a lost SYN (1 s).
func dialTime(lease time.Duration) time.Duration {
	return min(max(lease, 100*time.Millisecond), 2*time.Second)
}

// callTime is how long a peer may take to answer a call of Raft's: long enough
// for a slow disk, short enough to find a dead connection.
func callTime(lease time.Duration) time.Duration {
	return min(max(4*lease, time.Second), 10*time.Second)
}

// dialer makes connections to peers.
type dialer struct {
	identity *identity
	timeout  time.Duration
}

// dial connects to a peer by the given protocol, and to none but the server
// of the given id, unless that is anyServer.
func (d *dialer) dial(ctx context.Context, proto, address, id string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	raw, err := (&net.Dialer{KeepAliveConfig: keepAlive()}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	secured := tls.Client(raw, d.identity.client(proto, id))
	if err := secured.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, explain(address, err)
	}
	return secured, nil
}

// keepAlive finds the end of a peer that is gone without a word.
func keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3}
}

// client returns an HTTP client for the API of the peers.
func (d *dialer) client() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialTLSContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				return d.dial(ctx, protoPeer, address, anyServer)
			},
			MaxIdleConnsPerHost: 4,
			// A burst leaves connections behind that both ends pay for.
			IdleConnTimeout:    15 * time.Second,
			DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// stream is Raft's way through the port. Raft's addresses in it are of the
// form "server id@ip:port".
type stream struct {
	*inlet
	dialer *dialer

	mu    sync.Mutex
	conns map[*conn]struct{}
	done  bool
}

// Accept implements raft.StreamLayer.
func (s *stream) Accept() (net.Conn, error) {
	c, err := s.inlet.Accept()
	if err != nil {
		return nil, err
	}
	return s.track(c)
}

// Dial implements raft.StreamLayer.
func (s *stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	id, at, _ := strings.Cut(string(address), "@")
	c, err := s.dialer.dial(ctx, protoRaft, at, id)
	if err != nil {
		return nil, err
	}
	return s.track(c)
}

// track remembers a connection until it is closed.
func (s *stream) track(raw net.Conn) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		raw.Close()
		return nil, net.ErrClosed
	}
	c := &conn{Conn: raw}
	c.done = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c)
	}
	s.conns[c] = struct{}{}
	return c, nil
}

// sever closes every connection, and lets there be no other.
func (s *stream) sever() {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.done = true
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
}

// transport is raft.NetworkTransport, or a model of it, with two repairs.
//
// Every call names the server id that it is meant for, and TLS sees to it
// that no other server answers. Without that, a node with a wiped disk would
// vote and acknowledge in place of the voter that it was (rule P9).
//
// And a heartbeat passes by Raft's main goroutine only when it cannot change
// its term or role. In hashicorp/raft v1.7.3 a heartbeat of a newer term sets
// both behind the back of the main goroutine, which is waiting in a select:
// if the next thing that it sees there is a vote of its own past term, it
// becomes a second leader of the new term; if it is a proposal, a deposed
// leader writes an entry of the new term that the new leader has not.
type transport struct {
	Network
	stream *stream       // nil with a model of the network
	calls  chan raft.RPC // what Raft's main goroutine takes
	closed chan struct{}
	raft   atomic.Pointer[raft.Raft]
	retry  time.Duration // the wait before entries are brought again
	mute   atomic.Bool   // nothing is sent any more
	// whereabouts go before the addresses that Raft has.
	whereabouts whereabouts

	// gate is held while a heartbeat passes by. It is no mutex, since one that
	// comes in the middle of a change of role writes the term to the disk:
	// testing/synctest lets time pass only for whoever waits at a channel.
	gate   chan struct{}
	handle func(raft.RPC)
}

func newTransport(in *inlet, d *dialer, lease time.Duration, log hclog.Logger) *transport {
	s := &stream{inlet: in, dialer: d, conns: map[*conn]struct{}{}}
	network := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Logger:          log,
		Stream:          s,
		MaxRPCsInFlight: 1, // rule P10
		Timeout:         callTime(lease),
	})
	network.TimeoutScale = snapshotRate
	return carriedBy(newCaller(network, s, callTime(lease)), s, lease)
}

// carriedBy returns the transport over a network.
func carriedBy(network Network, s *stream, lease time.Duration) *transport {
	return &transport{
		Network: network, stream: s, calls: make(chan raft.RPC), closed: make(chan struct{}), retry: lease / 12,
		gate: make(chan struct{}, 1),
	}
}

// forward brings the calls that do not pass by to the main goroutine.
func (t *transport) forward() {
	for {
		select {
		case call := <-t.Network.Consumer():
			t.enqueue(call)
		case <-t.closed:
			return
		}
	}
}

func (t *transport) enqueue(call raft.RPC) {
	select {
	case t.calls <- call:
	case <-t.closed:
		call.Respond(nil, raft.ErrTransportShutdown)
	}
}

// Consumer implements raft.Transport.
func (t *transport) Consumer() <-chan raft.RPC { return t.calls }

// SetHeartbeatHandler implements raft.Transport.
func (t *transport) SetHeartbeatHandler(handle func(raft.RPC)) {
	t.handle = handle
	t.Network.SetHeartbeatHandler(t.heartbeat)
}

func (t *transport) heartbeat(call raft.RPC) {
	if !t.passBy(call) {
		t.enqueue(call)
	}
}

// passBy handles a heartbeat in the goroutine of its connection, if it is of
// the term that this follower is in, and reports whether it did.
func (t *transport) passBy(call raft.RPC) bool {
	defer t.enter()()
	r := t.raft.Load()
	request, ok := call.Command.(*raft.AppendEntriesRequest)
	if !ok || r == nil || r.State() != raft.Follower || r.CurrentTerm() != request.Term {
		return false
	}
	t.handle(call)
	return true
}

// roleChanged is called by Raft's main goroutine within a change of role. It
// returns when no heartbeat is under way that began under the old one.
func (t *transport) roleChanged(role raft.RaftState) {
	// A heartbeat can itself make a candidate a follower, and holds the gate.
	if role != raft.Follower {
		t.enter()()
	}
}

// enter waits for the gate and returns what leaves it.
func (t *transport) enter() (leave func()) {
	t.gate <- struct{}{}
	return func() { <-t.gate }
}

// say makes a call, unless this node has resigned.
func (t *transport) say(call func() error) error {
	if t.mute.Load() {
		return raft.ErrTransportShutdown
	}
	return call()
}

func (t *transport) meantFor(id raft.ServerID, address raft.ServerAddress) raft.ServerAddress {
	return raft.ServerAddress(id) + "@" + t.whereabouts.of(id, address)
}

// RequestVote implements raft.Transport.
func (t *transport) RequestVote(id raft.ServerID, at raft.ServerAddress, q *raft.RequestVoteRequest, a *raft.RequestVoteResponse) error {
	return t.say(func() error { return t.Network.RequestVote(id, t.meantFor(id, at), q, a) })
}

// RequestPreVote implements raft.WithPreVote.
func (t *transport) RequestPreVote(id raft.ServerID, at raft.ServerAddress, q *raft.RequestPreVoteRequest, a *raft.RequestPreVoteResponse) error {
	return t.say(func() error { return t.Network.RequestPreVote(id, t.meantFor(id, at), q, a) })
}

// TimeoutNow implements raft.Transport.
func (t *transport) TimeoutNow(id raft.ServerID, at raft.ServerAddress, q *raft.TimeoutNowRequest, a *raft.TimeoutNowResponse) error {
	return t.say(func() error { return t.Network.TimeoutNow(id, t.meantFor(id, at), q, a) })
}
