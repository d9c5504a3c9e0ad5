package raftstore

import (
	"bufio"
	"bytes"
	"errors"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/raft"
)

// The first byte of a call, as hashicorp/raft v1.7.3 has it.
const (
	callAppendEntries  byte = 0
	callRequestVote    byte = 1
	callTimeoutNow     byte = 3
	callRequestPreVote byte = 4
)

// answerBuffer holds any answer of Raft's, in bytes.
const answerBuffer = 512

// caller is raft.NetworkTransport, but for the calls that this node makes. The
// library keeps a buffer of 256 KiB with each connection. A leader has two
// connections to each peer, and at rest uses a hundred bytes of each. Here a
// call borrows its buffers for as long as it lasts. What is on the wire is the
// same.
//
// It leaves snapshots to the library: they are rare, and their connection
// ends with them.
type caller struct {
	*raft.NetworkTransport
	stream  raft.StreamLayer
	timeout time.Duration // how long a call may take

	scribes sync.Pool // of *scribe

	mu   sync.Mutex
	idle map[raft.ServerAddress][]net.Conn
}

func newCaller(network *raft.NetworkTransport, s raft.StreamLayer, timeout time.Duration) *caller {
	return &caller{
		NetworkTransport: network, stream: s, timeout: timeout,
		scribes: sync.Pool{New: func() any { return newScribe() }},
		idle:    map[raft.ServerAddress][]net.Conn{},
	}
}

// AppendEntries implements raft.Transport.
func (c *caller) AppendEntries(_ raft.ServerID, at raft.ServerAddress, q *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse) error {
	return c.call(at, callAppendEntries, q, a)
}

// RequestVote implements raft.Transport.
func (c *caller) RequestVote(_ raft.ServerID, at raft.ServerAddress, q *raft.RequestVoteRequest, a *raft.RequestVoteResponse) error {
	return c.call(at, callRequestVote, q, a)
}

// RequestPreVote implements raft.WithPreVote.
func (c *caller) RequestPreVote(_ raft.ServerID, at raft.ServerAddress, q *raft.RequestPreVoteRequest, a *raft.RequestPreVoteResponse) error {
	return c.call(at, callRequestPreVote, q, a)
}

// TimeoutNow implements raft.Transport.
func (c *caller) TimeoutNow(_ raft.ServerID, at raft.ServerAddress, q *raft.TimeoutNowRequest, a *raft.TimeoutNowResponse) error {
	return c.call(at, callTimeoutNow, q, a)
}

// CloseStreams implements Network.
func (c *caller) CloseStreams() {
	c.mu.Lock()
	peers := slices.Collect(maps.Keys(c.idle))
	c.mu.Unlock()
	for _, at := range peers {
		c.closeIdle(at)
	}
	c.NetworkTransport.CloseStreams()
}

// call makes one call and reads its answer. The connection can be used again
// if there is a whole answer, be it an error.
//
// An idle connection may be to a process that has ended since. All idle ones to
// that peer are then, and another is made: Raft's calls can be repeated, and an
// election would be lost for each connection that is tried, with the votes of
// peers that live.
func (c *caller) call(at raft.ServerAddress, kind byte, question, answer any) error {
	for {
		conn, fresh, err := c.take(at)
		if err != nil {
			return err
		}
		refused, err := c.converse(conn, kind, question, answer)
		if err == nil {
			c.giveBack(at, conn)
			return refused
		}
		conn.Close()
		if fresh || errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		c.closeIdle(at)
	}
}

// closeIdle closes all idle connections to a peer.
func (c *caller) closeIdle(at raft.ServerAddress) {
	c.mu.Lock()
	idle := c.idle[at]
	delete(c.idle, at)
	c.mu.Unlock()
	for _, conn := range idle {
		conn.Close()
	}
}

// converse returns in refused what the peer has against the call, and in err
// what went wrong with the connection.
func (c *caller) converse(conn net.Conn, kind byte, question, answer any) (refused, err error) {
	if err := conn.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return nil, err
	}
	s := c.scribes.Get().(*scribe)
	defer c.scribes.Put(s)
	if err := s.say(conn, kind, question); err != nil {
		return nil, err
	}
	return s.hear(conn, answer)
}

// take returns an idle connection to a peer, or a fresh one.
func (c *caller) take(at raft.ServerAddress) (conn net.Conn, fresh bool, err error) {
	if conn := c.takeIdle(at); conn != nil {
		return conn, false, nil
	}
	conn, err = c.stream.Dial(at, c.timeout)
	return conn, true, err
}

func (c *caller) takeIdle(at raft.ServerAddress) net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	conns := c.idle[at]
	if len(conns) == 0 {
		return nil
	}
	last := len(conns) - 1
	conn := conns[last]
	conns[last] = nil
	c.idle[at] = conns[:last]
	return conn
}

// giveBack keeps a connection for the next call, or closes it.
func (c *caller) giveBack(at raft.ServerAddress, conn net.Conn) {
	c.mu.Lock()
	room := !c.IsShutdown() && len(c.idle[at]) < idlePool
	if room {
		c.idle[at] = append(c.idle[at], conn)
	}
	c.mu.Unlock()
	if !room {
		conn.Close()
	}
}

// scribe writes calls and reads answers. Between two of them it holds nothing
// of either, so it can serve any connection.
type scribe struct {
	text   bytes.Buffer
	writer *codec.Encoder
	buffer *bufio.Reader
	reader *codec.Decoder
}

func newScribe() *scribe {
	s := &scribe{buffer: bufio.NewReaderSize(nil, answerBuffer)}
	// The time of an entry goes as raft.NetworkTransport writes it by default.
	s.writer = codec.NewEncoder(&s.text, &codec.MsgpackHandle{BasicHandle: codec.BasicHandle{TimeNotBuiltin: true}})
	s.reader = codec.NewDecoder(s.buffer, &codec.MsgpackHandle{})
	return s
}

// say sends a call in one piece.
func (s *scribe) say(conn net.Conn, kind byte, question any) error {
	s.text.Reset()
	s.text.WriteByte(kind)
	s.writer.Reset(&s.text)
	if err := s.writer.Encode(question); err != nil {
		return err
	}
	_, err := conn.Write(s.text.Bytes())
	return err
}

// errChatter ends a connection on which more came than an answer.
var errChatter = errors.New("peer answered more than it was asked")

// hear reads an answer: a reason against the call, or none, and what was asked
// for.
func (s *scribe) hear(conn net.Conn, answer any) (refused, err error) {
	s.buffer.Reset(conn)
	defer s.buffer.Reset(nil)
	s.reader.Reset(s.buffer)
	var reason string
	if err := s.reader.Decode(&reason); err != nil {
		return nil, err
	}
	if err := s.reader.Decode(answer); err != nil {
		return nil, err
	}
	if s.buffer.Buffered() > 0 {
		return nil, errChatter
	}
	if reason != "" {
		return errors.New(reason), nil
	}
	return nil, nil
}
