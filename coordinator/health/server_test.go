package health

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"
)

// testTimeout is that of the checks in the tests: long for what answers, and
// what hangs need not be waited for long.
const testTimeout = 2 * time.Second

// listen has a server take connections at a free port, and returns its address.
func listen(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				answer(conn)
			}()
		}
	}()
	return ln.Addr().String()
}

// says answers with a text and closes.
func says(text string) func(net.Conn) {
	return func(conn net.Conn) {
		first := make([]byte, 1024)
		if strings.HasPrefix(text, "HTTP") { // a server that closes with a request unread resets
			_, _ = conn.Read(first)
		}
		_, _ = conn.Write([]byte(text))
	}
}

// hangs takes connections and says nothing until the client goes.
func hangs(conn net.Conn) { awaitClose(conn) }

// stops says a text and then nothing more.
func stops(text string) func(net.Conn) {
	return func(conn net.Conn) {
		_, _ = conn.Write([]byte(text))
		awaitClose(conn)
	}
}

// endless says a text and then another one for ever.
func endless(text, rest string) func(net.Conn) {
	return func(conn net.Conn) {
		_, err := conn.Write([]byte(text))
		for more := []byte(strings.Repeat(rest, 1000)); err == nil; {
			_, err = conn.Write(more)
		}
	}
}

// resets ends connections in the worst way.
func resets(conn net.Conn) { _ = conn.(*net.TCPConn).SetLinger(0) }

func awaitClose(conn net.Conn) {
	buf := make([]byte, 1024)
	for {
		if _, err := conn.Read(buf); err != nil {
			return
		}
	}
}

// refusing is an address that nobody listens at.
func refusing(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// makeCheck returns the check of a spec that is right.
func makeCheck(t *testing.T, s Spec) *Check {
	t.Helper()
	if s.Timeout == 0 {
		s.Timeout = testTimeout
	}
	c, problems := New(s, runner)
	if len(problems) > 0 {
		t.Fatalf("%+v: %+v", s, problems)
	}
	return c
}

// once asks once, and returns what is wrong in words.
func once(t *testing.T, s Spec) string {
	t.Helper()
	a := attempts{check: makeCheck(t, s)}
	if err := a.once(context.Background()); err != nil {
		return err.Error()
	}
	return ""
}

// short makes a check one that is not waited for long.
func short(s Spec) Spec {
	s.Timeout = 50 * time.Millisecond
	return s
}

// judges demands what a check must find: nothing wrong for "", else words of
// the reason.
func judges(t *testing.T, s Spec, want string) {
	t.Helper()
	got := once(t, s)
	if want == "" && got != "" || want != "" && !strings.Contains(got, want) {
		t.Errorf("%s %s: %q, not %q", s.Kind, s.what(), got, want)
	}
}

func TestTCP(t *testing.T) {
	judges(t, Spec{Kind: TCP, Target: listen(t, hangs)}, "")
	judges(t, Spec{Kind: TCP, Target: listen(t, endless("", "x"))}, "")
	judges(t, Spec{Kind: TCP, Target: refusing(t)}, "connection refused")
	judges(t, short(Spec{Kind: TCP, Target: deaf(t)}), "in time")
}

// deaf is the address of a listener that does not accept, and whose queue is
// full: a SYN gets no answer.
func deaf(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	shrink(t, raw)
	for {
		conn, err := net.DialTimeout("tcp", ln.Addr().String(), 200*time.Millisecond)
		if err != nil {
			return ln.Addr().String()
		}
		t.Cleanup(func() { conn.Close() })
	}
}
