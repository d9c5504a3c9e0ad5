package raftstore

import (
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// dials is a stream that counts the connections that it makes.
type dials struct {
	raft.StreamLayer
	made atomic.Int32
}

func (d *dials) Dial(at raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	d.made.Add(1)
	return net.DialTimeout("tcp", string(at), timeout)
}

// libraryTransport is a peer that knows nothing of caller.
func libraryTransport(t *testing.T) *raft.NetworkTransport {
	t.Helper()
	network, err := raft.NewTCPTransport("127.0.0.1:0", nil, idlePool, patient, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		network.Close()
		network.CloseStreams()
	})
	return network
}

func newTestCaller(t *testing.T) (*caller, *dials) {
	d := &dials{}
	c := newCaller(libraryTransport(t), d, patient)
	t.Cleanup(c.CloseStreams)
	return c, d
}

// The library's receiver reads each call as it was meant, and its answer
// comes back, over one connection.
func TestCallsAreWhatTheLibraryReads(t *testing.T) {
	c, d := newTestCaller(t)
	peer := libraryTransport(t)
	at := peer.LocalAddr()
	header := raft.RPCHeader{ProtocolVersion: 3, ID: []byte("s1"), Addr: []byte("192.0.2.1:7440")}
	entry := &raft.Log{
		Index: 8, Term: 4, Type: raft.LogCommand, Data: []byte(strings.Repeat("buckets ", 50_000)), Extensions: []byte{1},
		AppendedAt: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
	}
	for _, call := range []struct {
		question, answer, got any
		say                   func(q, a any) error
	}{
		{
			&raft.AppendEntriesRequest{RPCHeader: header, Term: 4, PrevLogEntry: 7, PrevLogTerm: 3, LeaderCommitIndex: 6, Entries: []*raft.Log{entry}},
			&raft.AppendEntriesResponse{RPCHeader: header, Term: 4, LastLog: 8, Success: true}, &raft.AppendEntriesResponse{},
			func(q, a any) error {
				return c.AppendEntries("", at, q.(*raft.AppendEntriesRequest), a.(*raft.AppendEntriesResponse))
			},
		},
		{
			&raft.RequestVoteRequest{RPCHeader: header, Term: 5, LastLogIndex: 8, LastLogTerm: 4, LeadershipTransfer: true},
			&raft.RequestVoteResponse{RPCHeader: header, Term: 5, Granted: true}, &raft.RequestVoteResponse{},
			func(q, a any) error {
				return c.RequestVote("", at, q.(*raft.RequestVoteRequest), a.(*raft.RequestVoteResponse))
			},
		},
		{
			&raft.RequestPreVoteRequest{RPCHeader: header, Term: 5, LastLogIndex: 8, LastLogTerm: 4},
			&raft.RequestPreVoteResponse{RPCHeader: header, Term: 5, Granted: true}, &raft.RequestPreVoteResponse{},
			func(q, a any) error {
				return c.RequestPreVote("", at, q.(*raft.RequestPreVoteRequest), a.(*raft.RequestPreVoteResponse))
			},
		},
		{
			&raft.TimeoutNowRequest{RPCHeader: header}, &raft.TimeoutNowResponse{RPCHeader: header}, &raft.TimeoutNowResponse{},
			func(q, a any) error {
				return c.TimeoutNow("", at, q.(*raft.TimeoutNowRequest), a.(*raft.TimeoutNowResponse))
			},
		},
	} {
		heard := make(chan any, 1)
		go func() {
			rpc := <-peer.Consumer()
			heard <- rpc.Command
			rpc.Respond(call.answer, nil)
		}()
		if err := call.say(call.question, call.got); err != nil {
			t.Fatalf("%T: %v", call.question, err)
		}
		question := <-heard
		if q, ok := question.(*raft.AppendEntriesRequest); ok {
			q.Entries[0].AppendedAt = q.Entries[0].AppendedAt.UTC()
		}
		if !reflect.DeepEqual(question, call.question) {
			t.Errorf("the library read %T as %+v", call.question, question)
		}
		if !reflect.DeepEqual(call.got, call.answer) {
			t.Errorf("the answer to %T came as %+v", call.question, call.got)
		}
	}
	if n := d.made.Load(); n != 1 {
		t.Errorf("%d connections for calls one after the other", n)
	}
}

// A peer that refuses a call can be asked again over the same connection.
func TestARefusalLeavesTheConnection(t *testing.T) {
	c, d := newTestCaller(t)
	peer := libraryTransport(t)
	go func() {
		for range 2 {
			rpc := <-peer.Consumer()
			rpc.Respond(&raft.TimeoutNowResponse{}, errors.New("not now"))
		}
	}()
	for range 2 {
		if err := c.TimeoutNow("", peer.LocalAddr(), &raft.TimeoutNowRequest{}, &raft.TimeoutNowResponse{}); err == nil || err.Error() != "not now" {
			t.Errorf("a refusal comes as %v", err)
		}
	}
	if n := d.made.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// Neither a broken connection nor one with leftovers on it serves another
// call.
func TestABadConnectionIsNotUsedAgain(t *testing.T) {
	for what, answer := range map[string][]byte{
		"nothing":           nil,
		"half an answer":    {0xa0, 0x81},
		"more than answers": {0xa0, 0x80, 0xc0}, // an empty reason, an empty answer, nil
	} {
		c, d := newTestCaller(t)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Read(make([]byte, 512))
				_, _ = conn.Write(answer)
				conn.Close()
			}
		}()
		for range 2 {
			at := raft.ServerAddress(l.Addr().String())
			if err := c.TimeoutNow("", at, &raft.TimeoutNowRequest{}, &raft.TimeoutNowResponse{}); err == nil {
				t.Errorf("%s: taken for an answer", what)
			}
		}
		if n := d.made.Load(); n != 2 {
			t.Errorf("%s: %d connections for two calls", what, n)
		}
	}
}

// Calls that are under way at once have a connection each, of which no more
// than idlePool are kept.
func TestIdleConnectionsAreFew(t *testing.T) {
	c, d := newTestCaller(t)
	peer := libraryTransport(t)
	at := peer.LocalAddr()
	const calls = idlePool + 2
	done := make(chan error, calls)
	for range calls {
		go func() {
			done <- c.TimeoutNow("", at, &raft.TimeoutNowRequest{}, &raft.TimeoutNowResponse{})
		}()
	}
	var under []raft.RPC
	for range calls {
		under = append(under, <-peer.Consumer())
	}
	for _, rpc := range under {
		rpc.Respond(&raft.TimeoutNowResponse{}, nil)
	}
	for range calls {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if made, kept := d.made.Load(), len(c.idle[at]); made != calls || kept != idlePool {
		t.Errorf("%d connections for %d calls, %d of them kept", made, calls, kept)
	}
}

// A peer that has started again answers the first call, however many
// connections to its former process are left.
func TestAPeerThatHasStartedAgainIsAskedAtOnce(t *testing.T) {
	c, d := newTestCaller(t)
	peer := libraryTransport(t)
	at := peer.LocalAddr()
	ask := func() error {
		return c.RequestVote("", at, &raft.RequestVoteRequest{Term: 5}, &raft.RequestVoteResponse{})
	}
	asked := make(chan error)
	for range idlePool {
		go func() { asked <- ask() }()
	}
	var calls []raft.RPC
	for range idlePool { // all at a time, each over its own connection
		calls = append(calls, <-peer.Consumer())
	}
	for _, call := range calls {
		call.Respond(&raft.RequestVoteResponse{Granted: true}, nil)
	}
	for range idlePool {
		if err := <-asked; err != nil {
			t.Fatal(err)
		}
	}
	peer.Close()
	peer.CloseStreams()
	again, err := raft.NewTCPTransport(string(at), nil, idlePool, patient, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		again.Close()
		again.CloseStreams()
	})
	go func() {
		call := <-again.Consumer()
		call.Respond(&raft.RequestVoteResponse{Granted: true}, nil)
	}()
	if err := ask(); err != nil {
		t.Errorf("the first call failed: %v", err)
	}
	if n := d.made.Load(); n != idlePool+1 {
		t.Errorf("%d connections, want %d", n, idlePool+1)
	}
}
