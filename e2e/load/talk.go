package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// The talk protocol: the client's first line says what it wants, the server's
// first line tells its name. Then either each byte comes back ("echo"), as in
// an interactive session, or the server sends pieces of a size at an interval
// ("stream 50ms 1000"), whether or not the client has closed its side.

// pieceByte is the byte at an offset of a stream: a piece that is missing, or
// another server's, shows.
func pieceByte(offset uint64) byte { return byte(offset % 251) }

func piece(offset uint64, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = pieceByte(offset + uint64(i))
	}
	return b
}

// talk serves connections until the listener is closed.
func talk(ctx context.Context, ln net.Listener, name string) error {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		go func() {
			defer stop()
			defer conn.Close()
			// A client that is gone has nobody to be told.
			_ = talkOn(ctx, conn, name)
		}()
	}
}

func talkOn(ctx context.Context, conn net.Conn, name string) error {
	in := bufio.NewReader(conn)
	line, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(conn, name); err != nil {
		return err
	}
	if strings.TrimSpace(line) == "echo" {
		_, err := io.Copy(conn, in)
		return err
	}
	var every string
	var size int
	if _, err := fmt.Sscanf(line, "stream %s %d", &every, &size); err != nil {
		return err
	}
	interval, err := time.ParseDuration(every)
	if err != nil || interval <= 0 {
		return fmt.Errorf("interval %q: %w", every, err)
	}
	return stream(ctx, conn, interval, size)
}

// stream sends pieces until the client has gone.
func stream(ctx context.Context, conn net.Conn, interval time.Duration, size int) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for offset := uint64(0); ; offset += uint64(size) {
		if _, err := conn.Write(piece(offset, size)); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// talkSession is a client's side.
type talkSession struct {
	plan   Plan
	conn   net.Conn
	in     *bufio.Reader
	node   string
	offset uint64 // of the next byte
	buf    []byte // of a piece
}

// openTalk connects and says what it wants.
func (p Plan) openTalk(want string, r *Record) (*talkSession, error) {
	conn, err := p.connect(r)
	if err != nil {
		return nil, err
	}
	s := &talkSession{plan: p, conn: conn, in: bufio.NewReader(conn), buf: make([]byte, p.Bytes)}
	if s.node, err = s.greet(want, r); err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

func (s *talkSession) greet(want string, r *Record) (string, error) {
	if err := s.conn.SetDeadline(r.Start.Add(s.plan.Timeout)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(s.conn, want); err != nil {
		return "", err
	}
	name, err := s.in.ReadString('\n')
	return strings.TrimSpace(name), err
}

func (s *talkSession) close() { s.conn.Close() }

// keys types on an interactive session.
type keys struct{ *talkSession }

func (p Plan) openKeys(_ int, r *Record) (session, error) {
	s, err := p.openTalk("echo", r)
	if err != nil {
		return nil, err
	}
	return keys{s}, nil
}

// ask types one key and waits until it shows.
func (s keys) ask(r *Record) error {
	r.Node = s.node
	if err := s.conn.SetDeadline(r.Start.Add(s.plan.Timeout)); err != nil {
		return err
	}
	key := pieceByte(s.offset)
	s.offset++
	if _, err := s.conn.Write([]byte{key}); err != nil {
		return err
	}
	got, err := s.in.ReadByte()
	if err == nil && got != key {
		err = errWrongBytes
	}
	return err
}

var errWrongBytes = errors.New("other bytes than were sent")

// received reads a stream. Half-closed: the client has sent its FIN.
type received struct{ *talkSession }

func (p Plan) openStream(_ int, r *Record) (session, error) {
	s, err := p.openTalk(fmt.Sprintf("stream %v %d", p.Interval, p.Bytes), r)
	if err != nil {
		return nil, err
	}
	if p.Kind == HalfClosed {
		if err := s.conn.(*net.TCPConn).CloseWrite(); err != nil {
			s.close()
			return nil, err
		}
	}
	return received{s}, nil
}

// ask waits for the next piece. Its latency is by how much it was late.
func (s received) ask(r *Record) error {
	r.Node = s.node
	if err := s.conn.SetDeadline(r.Start.Add(s.plan.Timeout)); err != nil {
		return err
	}
	if _, err := io.ReadFull(s.in, s.buf); err != nil {
		return err
	}
	r.Latency = max(time.Since(r.Start)-s.plan.Interval, 1)
	for i, b := range s.buf {
		if b != pieceByte(s.offset+uint64(i)) {
			return errWrongBytes
		}
	}
	s.offset += uint64(len(s.buf))
	return nil
}
