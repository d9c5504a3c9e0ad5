package load

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"earshot/e2e/lab"
)

// Each kind of client is answered by the node it asked, from each source, and
// the witness agrees.
func TestEveryKindIsAnswered(t *testing.T) {
	l := start(t, 2)
	for _, c := range []struct {
		kind  Kind
		port  uint16
		proto Proto
		named bool
	}{{HTTP, 80, TCP, true}, {UDP, 7000, Datagram, true}, {ICMP, 0, Echo, false}} {
		t.Run(string(c.kind), func(t *testing.T) {
			w := watch(t, l)
			records := finish(t, l, plan(l, c.kind, c.port))
			s := records.Summary()
			t.Log(s)
			if s.Requests != 200 || len(s.Failures) > 0 || s.Doubles > 0 || c.named && s.Nodes["n1"] != 200 {
				t.Errorf("summary: %v", s)
			}
			v, err := w.Verdict(c.proto)
			if err != nil || v.Asked != 200 || v.Unanswered > 0 || v.Nodes["n1"] != 200 || len(v.Twice)+len(v.Mixed) > 0 {
				t.Errorf("verdict: %+v, %v", v, err)
			}
			sources := map[netip.Addr]int{}
			for _, r := range records {
				sources[r.Client.Addr()]++
				if who, ok := w.Answerer(c.proto, r.Client, netip.AddrPortFrom(l.Nodes[0].Port.Addr, c.port)); !ok || who != "n1" {
					t.Errorf("%s answered by %q", r.Client, who)
				}
			}
			if len(sources) != 100 {
				t.Errorf("asked from %d sources", len(sources))
			}
		})
	}
}

// A slow download takes its time and arrives whole.
func TestSlowDownload(t *testing.T) {
	l := start(t, 1)
	p := plan(l, HTTP, 80)
	p.Path, p.Count = "/slow?for=300ms&bytes=100000", 5
	for _, r := range finish(t, l, p) {
		if r.Failure != "" || r.Latency < 300*time.Millisecond || r.Node != "n1" {
			t.Errorf("%+v", r)
		}
	}
}

// A held connection keeps asking until it is stopped, and notices the break.
func TestHeldConnections(t *testing.T) {
	l := start(t, 2)
	p := plan(l, Hold, 80)
	p.Count, p.Interval = 20, 10*time.Millisecond
	run, err := Start(l.Clients[0].Namespace, p)
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Await(200, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	records, err := run.Stop()
	if err != nil {
		t.Fatal(err)
	}
	clients := map[netip.AddrPort]int{}
	for _, r := range records {
		clients[r.Client]++
	}
	if s := records.Summary(); len(s.Failures) > 0 || len(clients) != 20 {
		t.Errorf("%v on %d connections", s, len(clients))
	}
}

// hangUp accepts connections on port 81 and resets them.
func hangUp(t *testing.T, ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
		// Wait for the request: a reset before it may look like a refusal.
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Error(err)
		}
		if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
			t.Error(err)
		}
		conn.Close()
	}
}

// Failures are told apart by errno.
func TestFailuresAreToldApart(t *testing.T) {
	l := start(t, 1)
	ln, err := l.Nodes[0].Listen("tcp", "0.0.0.0:81")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go hangUp(t, ln)
	expect := func(want Failure, p Plan) {
		t.Helper()
		p.Count, p.Timeout = 20, 300*time.Millisecond
		if s := finish(t, l, p).Summary(); s.Requests != 20 || s.Failures[want] != 20 {
			t.Errorf("want %s: %v", want, s)
		}
	}
	expect(Refused, plan(l, HTTP, 82))
	expect(Refused, plan(l, UDP, 7001))
	expect(Reset, plan(l, HTTP, 81))
	notFound := plan(l, HTTP, 80)
	notFound.Path = "/slow"
	expect(Other, notFound)
	if err := l.Sever(l.Clients[0].Port, l.Nodes[0].Port); err != nil {
		t.Fatal(err)
	}
	expect(Timeout, plan(l, HTTP, 80))
	expect(Timeout, plan(l, UDP, 7000))
	expect(Timeout, plan(l, ICMP, 0))
}

// A server that cannot listen is no server.
func TestServeFailsWhenThePortIsTaken(t *testing.T) {
	l := start(t, 1)
	if _, err := Serve(l.Nodes[0].Namespace, Service{HTTP: []string{":80"}}); err == nil {
		t.Error("two servers on one port")
	}
}

// A server that nobody keeps a reference to goes on all the same.
func TestServerOutlivesItsReference(t *testing.T) {
	l := start(t, 1)
	for range 3 {
		runtime.GC()
	}
	if s := finish(t, l, plan(l, HTTP, 80)).Summary(); len(s.Failures) > 0 {
		t.Error(s)
	}
}

// What stays open is asked on, and tells whose it is; it notices the break.
func TestEveryKindThatStaysOpen(t *testing.T) {
	l := lab.Start(t, lab.Options{Nodes: 1, Clients: 1})
	n := l.Nodes[0]
	server, err := Serve(n.Namespace, Service{Name: n.Name, HTTP: []string{":80"}, UDP: []string{":7000"}, Talk: []string{":22"}})
	if err != nil {
		t.Fatal(err)
	}
	runs := map[Kind]*Run{}
	for kind, port := range map[Kind]uint16{Hold: 80, WebSocket: 80, Keys: 22, Download: 22, HalfClosed: 22, Flow: 7000} {
		p := plan(l, kind, port)
		p.Count, p.Interval, p.Bytes, p.Timeout = 10, 10*time.Millisecond, 5000, 2*time.Second
		if runs[kind], err = Start(l.Clients[0].Namespace, p); err != nil {
			t.Fatal(err)
		}
	}
	for kind, run := range runs {
		if err := run.Await(200, 20*time.Second); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if s := run.Records().Summary(); len(s.Failures) > 0 || s.Nodes["n1"] != s.Requests || len(run.Records().Moved()) > 0 {
			t.Errorf("%s: %v", kind, s)
		}
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	for kind, run := range runs {
		records, err := run.Stop()
		if err != nil {
			t.Fatal(err)
		}
		if broken := len(records.Failed()); broken != 10 && kind != Flow || broken < 10 {
			t.Errorf("%s: %d of 10 noticed the break: %v", kind, broken, records.Summary())
		}
	}
}

// An idle session is asked a last time.
func TestAnIdleSessionIsAskedALastTime(t *testing.T) {
	l := start(t, 1)
	p := plan(l, Hold, 80)
	p.Count, p.Interval = 5, time.Hour
	run, err := Start(l.Clients[0].Namespace, p)
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Await(5, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	records, err := run.Stop()
	if err != nil || len(records) != 10 || len(records.Failed()) > 0 {
		t.Errorf("%v, %v", records.Summary(), err)
	}
}
