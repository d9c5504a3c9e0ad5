package load

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// A small world: one client, one service, two nodes.
var (
	clientMAC = [6]byte{2, 0, 0, 0, 0, 9}
	nodeMACs  = map[string][6]byte{"n1": {2, 0, 0, 0, 0, 1}, "n2": {2, 0, 0, 0, 0, 2}}
)

// asks is a frame of the client's, answers one of a node's.
func asks(proto Proto, flags byte, number uint32) frame {
	return frame{
		from: clientMAC, proto: proto, flags: flags, sequence: number, id: uint64(number) * b2u(proto != TCP), request: true,
		src: netip.MustParseAddrPort("10.9.0.1:40000"), dst: netip.MustParseAddrPort("192.168.56.20:80"),
	}
}

func answers(node string, proto Proto, flags byte, number uint32) frame {
	f := asks(proto, flags, number)
	f.from, f.src, f.dst, f.request = nodeMACs[node], f.dst, f.src, false
	return f
}

// errs is an ICMP error about a frame of the client's.
func errs(node string, about frame) frame {
	return frame{from: nodeMACs[node], proto: unreachable, src: about.dst, dst: about.src, about: &about}
}

func b2u(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// What is a second answer, and what only looks like one.
func TestLedgerJudges(t *testing.T) {
	const synAck = flagSYN | flagACK
	udp := asks(Datagram, 0, 1)
	for name, c := range map[string]struct {
		proto                           Proto
		frames                          []frame
		asked, unanswered, twice, mixed int
	}{
		"one handshake":            {TCP, []frame{asks(TCP, flagSYN, 1), answers("n1", TCP, synAck, 7), answers("n1", TCP, flagACK, 8)}, 1, 0, 0, 0},
		"no answer":                {TCP, []frame{asks(TCP, flagSYN, 1)}, 1, 1, 0, 0},
		"repeated SYN":             {TCP, []frame{asks(TCP, flagSYN, 1), asks(TCP, flagSYN, 1), answers("n1", TCP, synAck, 7)}, 1, 0, 0, 0},
		"repeated SYN-ACK":         {TCP, []frame{asks(TCP, flagSYN, 1), answers("n1", TCP, synAck, 7), answers("n1", TCP, synAck, 7)}, 1, 0, 0, 0},
		"two SYN-ACKs of one node": {TCP, []frame{asks(TCP, flagSYN, 1), answers("n1", TCP, synAck, 7), answers("n1", TCP, synAck, 9)}, 1, 0, 1, 0},
		"SYN-ACKs of two nodes":    {TCP, []frame{asks(TCP, flagSYN, 1), answers("n1", TCP, synAck, 7), answers("n2", TCP, synAck, 7)}, 1, 0, 1, 0},
		"port used again": {TCP, []frame{
			asks(TCP, flagSYN, 1), answers("n1", TCP, synAck, 7), asks(TCP, flagSYN, 2), answers("n2", TCP, synAck, 9),
		}, 2, 0, 0, 0},
		"refused":               {TCP, []frame{asks(TCP, flagSYN, 1), answers("n1", TCP, flagRST|flagACK, 0)}, 1, 0, 0, 0},
		"taken and refused":     {TCP, []frame{asks(TCP, flagSYN, 1), answers("n1", TCP, synAck, 7), answers("n2", TCP, flagRST, 0)}, 1, 0, 0, 1},
		"refused and taken":     {TCP, []frame{asks(TCP, flagSYN, 1), answers("n2", TCP, flagRST, 0), answers("n1", TCP, synAck, 7)}, 1, 0, 1, 0},
		"taken over midway":     {TCP, []frame{asks(TCP, flagSYN, 1), answers("n1", TCP, synAck, 7), answers("n2", TCP, flagACK, 8)}, 1, 0, 0, 1},
		"one datagram":          {Datagram, []frame{udp, answers("n1", Datagram, 0, 1)}, 1, 0, 0, 0},
		"two of one node":       {Datagram, []frame{udp, answers("n1", Datagram, 0, 1), answers("n1", Datagram, 0, 1)}, 1, 0, 1, 0},
		"two of two nodes":      {Datagram, []frame{udp, answers("n1", Datagram, 0, 1), answers("n2", Datagram, 0, 1)}, 1, 0, 1, 0},
		"answer and error":      {Datagram, []frame{udp, answers("n1", Datagram, 0, 1), errs("n2", udp)}, 1, 0, 1, 0},
		"two errors":            {Datagram, []frame{udp, errs("n1", udp), errs("n2", udp)}, 1, 0, 1, 0},
		"two asked, two told":   {Datagram, []frame{udp, asks(Datagram, 0, 2), answers("n1", Datagram, 0, 1), answers("n2", Datagram, 0, 2)}, 2, 0, 0, 0},
		"echo answered twice":   {Echo, []frame{asks(Echo, 0, 1), answers("n1", Echo, 0, 1), answers("n2", Echo, 0, 1)}, 1, 0, 1, 0},
		"what nobody asked for": {TCP, []frame{answers("n1", TCP, synAck, 7)}, 0, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			names := map[[6]byte]string{}
			for node, mac := range nodeMACs {
				names[mac] = node
			}
			l := newLedger(clientMAC, names)
			for _, f := range c.frames {
				l.enter(f)
			}
			v := l.verdict(c.proto)
			if v.Asked != c.asked || v.Unanswered != c.unanswered || len(v.Twice) != c.twice || len(v.Mixed) != c.mixed {
				t.Errorf("%+v", v)
			}
		})
	}
}

// What the books tell of each question, in the order of asking.
func TestLedgerListsQuestions(t *testing.T) {
	l := newLedger(clientMAC, map[[6]byte]string{nodeMACs["n1"]: "n1", nodeMACs["n2"]: "n2"})
	for _, f := range []frame{
		asks(TCP, flagSYN, 1), asks(TCP, flagSYN, 1), answers("n1", TCP, flagSYN|flagACK, 7), answers("n2", TCP, flagACK, 8),
		asks(TCP, flagSYN, 2), asks(Datagram, 0, 3),
	} {
		l.enter(f)
	}
	all := l.questions(TCP)
	if len(all) != 2 {
		t.Fatalf("%d questions: %v", len(all), all)
	}
	first, second := all[0], all[1]
	if first.Client != asks(TCP, 0, 1).src || first.Server != asks(TCP, 0, 1).dst || first.Times != 2 ||
		!slices.Equal(first.Nodes, []string{"n1"}) || first.Answered.Before(first.Asked) {
		t.Errorf("the first: %v", first)
	}
	if second.Times != 1 || len(second.Nodes) > 0 || !second.Answered.IsZero() || second.Asked.Before(first.Asked) {
		t.Errorf("the second: %v", second)
	}
}

// A wait is from the first asking to the first answer, by the kernel's time.
func TestLedgerTellsWaits(t *testing.T) {
	l := newLedger(clientMAC, map[[6]byte]string{nodeMACs["n1"]: "n1"})
	begin := time.Unix(1e9, 0)
	for _, f := range []struct {
		after time.Duration
		frame
	}{
		{0, asks(TCP, flagSYN, 1)}, {time.Second, asks(TCP, flagSYN, 1)}, {1003 * time.Millisecond, answers("n1", TCP, flagSYN|flagACK, 7)},
		{2 * time.Second, asks(TCP, flagSYN, 2)}, {2002 * time.Millisecond, answers("n1", TCP, flagSYN|flagACK, 9)}, {5 * time.Second, answers("n1", TCP, flagSYN|flagACK, 9)},
		{6 * time.Second, asks(TCP, flagSYN, 3)},
	} {
		f.at = begin.Add(f.after)
		l.enter(f.frame)
	}
	v := l.verdict(TCP)
	if want := []time.Duration{2 * time.Millisecond, 1003 * time.Millisecond}; !slices.Equal(v.Waits, want) {
		t.Errorf("waits %v, want %v", v.Waits, want)
	}
	if got := v.Waited(200 * time.Millisecond); !strings.HasSuffix(got, "1.003s at the latest, 1 later than 200ms") {
		t.Errorf("in words: %s", got)
	}
}
