package nft

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"

	"earshot/hashmode"
	"earshot/nft/nfttest"
)

// A keeper runs Hold and keeps what is held.
type keeper struct {
	t     testing.TB
	p     *Plane
	mu    sync.Mutex
	held  []HeldPacket
	pause chan struct{} // if set, the judge waits for it
	stop  func() error
}

// keep runs the plane's Hold for the length of the test.
func (w *world) keep(p *Plane) *keeper {
	w.t.Helper()
	return w.keepWith(p, nil)
}

func (w *world) keepWith(p *Plane, pause chan struct{}) *keeper {
	w.t.Helper()
	k := &keeper{t: w.t, p: p, pause: pause}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- p.Hold(ctx, func() { close(ready) }, k.judge) }()
	k.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	select {
	case <-ready:
	case err := <-ended:
		w.t.Fatalf("hold: %v", err)
	}
	w.t.Cleanup(func() { must(w.t, k.stop()) })
	return k
}

func (k *keeper) judge(packets []HeldPacket) {
	if k.pause != nil {
		<-k.pause
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held = append(k.held, packets...)
}

// wait returns the first n packets that are held, and forgets them.
func (k *keeper) wait(n int) []HeldPacket {
	k.t.Helper()
	var got []HeldPacket
	eventually(k.t, "held packets", func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		if len(k.held) < n {
			return false
		}
		got, k.held = k.held[:n:n], k.held[n:]
		return true
	})
	return got
}

func (k *keeper) decide(v Verdict, packets ...HeldPacket) {
	k.t.Helper()
	var decisions []Decision
	for _, p := range packets {
		decisions = append(decisions, Decision{p.ID, v})
	}
	must(k.t, k.p.Decide(decisions))
}

// send sends a packet and says whether it passed, was dropped or is held.
func (k *keeper) send(o *observer, p nfttest.Packet) (outcome string, held []HeldPacket) {
	k.t.Helper()
	before := k.p.HoldUse().Held
	if n := o.passed(p); n == 1 {
		return "pass", nil
	} else if n != 0 {
		k.t.Fatalf("one packet passed %d times", n)
	}
	// What is held went to the queue before the marker that passed counts.
	if k.queued() == before {
		return "drop", nil
	}
	return "hold", k.wait(1)
}

// queued counts what the rules have given to the queue, as far as it is gone
// from there to the judge.
func (k *keeper) queued() uint64 {
	k.t.Helper()
	var n uint64
	eventually(k.t, "the queue read", func() bool {
		use, ok := k.p.ns.readQueueUse()
		if !ok {
			k.t.Fatal("nobody has bound the queue")
		}
		n = k.p.HoldUse().Held
		return n == use.sequence
	})
	return n
}

// hold is a ruleset of one service whose rules hold.
func heldBy(index uint64, services ...Service) Ruleset {
	return Ruleset{Index: index, Hold: true, Services: services}
}

// service of web's kind with one bucket in a state.
func inState(v6 bool, state string, b hashmode.Bucket) Service {
	one, none := hashmode.NewSet(b), hashmode.Set{}
	s := webOf(v6, none, none, none)
	switch state {
	case "own":
		s.Own = one
	case "inherit":
		s.Inherit = one
	case "drain":
		s.Drain = one
	case "take":
		s.Take = one
	}
	return s
}

// Each state of a bucket against each kind of packet where the rules hold:
// the verdict table with rule P24.
func TestHoldTable(t *testing.T) { eachIP(t, holdTable) }

func holdTable(t *testing.T, v6 bool) {
	const bucket = 5
	states := map[string]map[string]string{
		"own": {
			"known": "pass", "known SYN": "pass", "SYN": "pass", "options": "pass", "mid-stream": "pass", "UDP": "pass", "known UDP": "pass",
			"echo": "pass", "ESP": "pass", "other port": "pass", "fragments": "pass", "related error": "pass", "error": "drop"},
		"inherit": {
			"known": "pass", "known SYN": "pass", "SYN": "pass", "options": "pass", "mid-stream": "drop", "UDP": "hold", "known UDP": "pass",
			"echo": "hold", "ESP": "hold", "other port": "hold", "fragments": "hold", "related error": "pass", "error": "drop"},
		"take": {
			"known": "pass", "known SYN": "pass", "SYN": "hold", "options": "hold", "mid-stream": "drop", "UDP": "hold", "known UDP": "pass",
			"echo": "hold", "ESP": "hold", "other port": "hold", "fragments": "hold", "related error": "pass", "error": "drop"},
		"drain": {
			"known": "pass", "known SYN": "drop", "SYN": "drop", "options": "drop", "mid-stream": "drop", "UDP": "drop", "known UDP": "pass",
			"echo": "drop", "ESP": "drop", "other port": "drop", "fragments": "drop", "related error": "pass", "error": "drop"},
		"foreign": {
			"known": "drop", "known SYN": "drop", "SYN": "drop", "options": "drop", "mid-stream": "drop", "UDP": "drop", "known UDP": "drop",
			"echo": "drop", "ESP": "drop", "other port": "drop", "fragments": "drop", "related error": "pass", "error": "drop"},
	}
	for state, want := range states {
		t.Run(state, func(t *testing.T) {
			w := newWorld(t)
			p := w.plane()
			w.serve()
			leased(t, p, 1, webOf(v6, all16(), hashmode.Set{}, hashmode.Set{}))
			o := w.observer()
			spec := ownAll().Hash
			known, other := clientOfIP(v6, spec, bucket, 0), clientOfIP(v6, spec, bucket, 1)
			data := w.handshake(o, known)
			if o.passed(udp(known, 80)) != 1 {
				t.Fatal("the flow that is to be known was not opened")
			}
			k := w.keep(p)
			must(t, p.Apply(heldBy(2, inState(v6, state, bucket))))
			kinds := packets(known, other)
			kinds["known"], kinds["ESP"] = data, esp(other)
			for _, name := range slices.Sorted(maps.Keys(kinds)) {
				got, held := k.send(o, kinds[name])
				if got != want[name] {
					t.Errorf("%s: %s, want %s", name, got, want[name])
				}
				for _, h := range held {
					opens := name == "SYN" || name == "options"
					if h.Service != w.serviceName(v6) || h.Bucket != bucket || h.Opens != opens || h.Flow != flowOf(kinds[name]) {
						t.Errorf("%s is held as %+v", name, h)
					}
				}
			}
		})
	}
}

func (w *world) serviceName(v6 bool) string {
	return webOf(v6, hashmode.Set{}, hashmode.Set{}, hashmode.Set{}).Name
}

func esp(from netip.AddrPort) nfttest.Packet {
	return nfttest.Packet{From: from, To: to(from, 0), Protocol: nfttest.ESP, Payload: append([]byte{1, 2, 3, 4}, make([]byte, 36)...)}
}

// flowOf is a packet's flow as conntrack names it.
func flowOf(p nfttest.Packet) Flow {
	f := Flow{Protocol(p.Protocol), p.From, p.To}
	switch p.Protocol {
	case nfttest.ICMP, nfttest.ICMP6:
		f.Client = netip.AddrPortFrom(p.From.Addr(), uint16(p.Payload[4])<<8|uint16(p.Payload[5]))
		f.Server = netip.AddrPortFrom(p.To.Addr(), uint16(p.Payload[0])<<8|uint16(p.Payload[1]))
	case nfttest.ESP, nfttest.GRE, nfttest.AH:
		f.Client, f.Server = netip.AddrPortFrom(p.From.Addr(), 0), netip.AddrPortFrom(p.To.Addr(), 0)
	}
	return f
}

// What may wait for a verdict, two packets of one flow each, and one of
// another flow in the same bucket.
func heldKinds(v6 bool, bucket hashmode.Bucket) map[string][3]nfttest.Packet {
	spec := ownAll().Hash
	a, b := clientOfIP(v6, spec, bucket, 0), otherHost(v6, bucket)
	again := tcp(a, nfttest.SYN)
	again.Payload = nil
	echo := func(from netip.AddrPort, id, seq uint16) nfttest.Packet {
		return nfttest.Echo(from, to(from, 0).Addr(), id, seq)
	}
	fragmented := func(from netip.AddrPort, id uint16) nfttest.Packet {
		p := udp(from, 80)
		p.Fragments, p.ID = 24, id
		return p
	}
	return map[string][3]nfttest.Packet{
		"TCP":       {tcp(a, nfttest.SYN), again, tcp(b, nfttest.SYN)},
		"UDP":       {udp(a, 80), udp(a, 80), udp(b, 80)},
		"echo":      {echo(a, 7, 1), echo(a, 7, 2), echo(a, 8, 1)},
		"ESP":       {esp(a), esp(a), esp(b)},
		"fragments": {fragmented(a, 77), fragmented(a, 78), fragmented(b, 79)},
	}
}

// otherHost is a client of the bucket with another address than clientOfIP's.
func otherHost(v6 bool, bucket hashmode.Bucket) netip.AddrPort {
	first := clientOfIP(v6, ownAll().Hash, bucket, 0)
	for skip := 1; ; skip++ {
		if c := clientOfIP(v6, ownAll().Hash, bucket, skip); c.Addr() != first.Addr() {
			return c
		}
	}
}

// What becomes of packets after each verdict: of the packet itself, of the
// next one of its flow, and of another flow's.
func TestVerdicts(t *testing.T) {
	for _, mac := range []string{"multicast", "stealth"} {
		t.Run(mac, func(t *testing.T) {
			eachIP(t, func(t *testing.T, v6 bool) {
				for name, three := range heldKinds(v6, 5) {
					t.Run(name, func(t *testing.T) { verdicts(t, v6, mac == "stealth", three) })
				}
			})
		})
	}
}

func verdicts(t *testing.T, v6, stealth bool, three [3]nfttest.Packet) {
	s := inState(v6, "take", 5)
	w := newWorld(t)
	if stealth {
		s, w.clusterMAC = stealthy(s), StealthMAC
	}
	w.serve()
	p := w.plane()
	k := w.keep(p)
	must(t, p.Apply(heldBy(1, s)))
	must(t, p.Lease(time.Now().Add(time.Hour)))
	o := w.observer()
	expect := func(what string, packet nfttest.Packet, want string) []HeldPacket {
		t.Helper()
		got, held := k.send(o, packet)
		if got != want {
			t.Fatalf("%s: %s, want %s", what, got, want)
		}
		return held
	}
	tcp := three[0].Protocol == nfttest.TCP

	k.decide(Drop, expect("first", three[0], "hold")...)
	k.decide(Theirs, expect("after Drop", three[1], "hold")...)
	if tcp { // what opens a flow is of nobody yet
		k.decide(Drop, expect("SYN after Theirs", three[1], "hold")...)
		if n := w.remembered(v6); n > 0 {
			t.Fatalf("%d flows are remembered as a peer's", n)
		}
	} else {
		expect("after Theirs", three[1], "drop")
		k.decide(Drop, expect("another flow", three[2], "hold")...)
		must(t, p.AskAgain())
		k.decide(Drop, expect("after AskAgain", three[1], "hold")...)
	}
	if shared, _ := o.counters(); shared != 0 {
		t.Fatalf("%d packets passed without a Pass", shared)
	}
	if known, err := p.Known([]Flow{flowOf(three[0])}); err != nil || known[0] {
		t.Fatalf("a flow of dropped packets is known: %v, %v", known, err)
	}
	k.decide(Pass, expect("again", three[0], "hold")...)
	if shared, _ := o.counters(); shared != 1 {
		t.Fatalf("%d packets passed, want 1", shared)
	}
	if known, err := p.Known([]Flow{flowOf(three[0]), flowOf(three[2])}); err != nil || !known[0] || known[1] {
		t.Fatalf("known are %v, %v", known, err)
	}
	expect("after Pass", three[1], "pass")
	if use := p.HoldUse(); use.Waiting != 0 || use.Passed != 1 || use.Theirs != 1 || use.Expired+use.Lost != 0 || use.Passed+use.Dropped+use.Theirs != use.Held {
		t.Errorf("use %+v", use)
	}
}

// remembered counts the flows of peers.
func (w *world) remembered(v6 bool) (n int) {
	w.node.Do(func() {
		c, err := nftables.New()
		must(w.t, err)
		elements, err := c.GetSetElements(&nftables.Set{Table: tableOf(inet), Name: setTheirs(v6, portFlow)})
		must(w.t, err)
		n = len(elements)
	})
	return n
}

// The verdict on a packet may come when its bucket has been given away, or
// when the lease is over: it does not open a flow any more.
func TestLatePass(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *Plane){
		"drain":   func(t *testing.T, p *Plane) { must(t, p.Apply(heldBy(2, inState(false, "drain", 5)))) },
		"foreign": func(t *testing.T, p *Plane) { must(t, p.Apply(heldBy(2, inState(false, "own", 6)))) },
		"gone":    func(t *testing.T, p *Plane) { must(t, p.Apply(heldBy(2))) },
		"another hash": func(t *testing.T, p *Plane) {
			s := inState(false, "own", 5) // the same number, of other packets
			s.Hash.Seed++
			must(t, p.Apply(heldBy(2, s)))
		},
		"another service": func(t *testing.T, p *Plane) {
			s := inState(false, "own", 5)
			s.Name = "a-" + s.Name
			must(t, p.Apply(heldBy(2, s)))
		},
		"revoked": func(t *testing.T, p *Plane) { must(t, p.Revoke()) },
		"expired": func(t *testing.T, p *Plane) {
			must(t, p.Lease(time.Now().Add(20*time.Millisecond)))
			eventually(t, "end of the lease", func() bool { return !p.holds.leased() })
		},
		"twice": func(t *testing.T, p *Plane) {},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.serve()
			p := w.plane()
			k := w.keep(p)
			must(t, p.Apply(heldBy(1, inState(false, "take", 5))))
			must(t, p.Lease(time.Now().Add(time.Hour)))
			o := w.observer()
			syn := tcp(clientOf(ownAll().Hash, 5, 0), nfttest.SYN)
			_, held := k.send(o, syn)
			if len(held) != 1 {
				t.Fatal("not held")
			}
			end(t, p)
			if name == "twice" {
				k.decide(Drop, held...)
			}
			k.decide(Pass, held...)
			if shared, _ := o.counters(); shared != 0 {
				t.Error("the packet passed")
			}
			if known, err := p.Known([]Flow{flowOf(syn)}); err != nil || known[0] {
				t.Errorf("known %v, %v", known, err)
			}
			if use := p.HoldUse(); use.Dropped != 1 || use.Waiting != 0 {
				t.Errorf("use %+v", use)
			}
		})
	}
}

// A verdict that comes while the bucket is being given away: from before the
// kernel is told, a Pass opens nothing.
func TestPassBesideRelease(t *testing.T) {
	w := newWorld(t)
	w.serve()
	p := w.plane()
	k := w.keep(p)
	leasedHold(t, p, inState(false, "take", 5))
	o := w.observer()
	_, held := k.send(o, tcp(clientOf(ownAll().Hash, 5, 0), nfttest.SYN))
	p.holds.narrowed = func() { k.decide(Pass, held...) }
	must(t, p.Apply(heldBy(2, inState(false, "drain", 5))))
	if shared, _ := o.counters(); shared != 0 || p.HoldUse().Dropped != 1 {
		t.Errorf("%d packets passed, %+v", shared, p.HoldUse())
	}
}

// A bucket that goes on from take to inherit and to own keeps what waits.
func TestPassAfterTake(t *testing.T) {
	w := newWorld(t)
	w.serve()
	p := w.plane()
	k := w.keep(p)
	must(t, p.Apply(heldBy(1, inState(false, "take", 5))))
	must(t, p.Lease(time.Now().Add(time.Hour)))
	o := w.observer()
	for i, state := range []string{"inherit", "own"} {
		must(t, p.Apply(heldBy(uint64(2*i+2), inState(false, "take", 5))))
		_, held := k.send(o, tcp(clientOf(ownAll().Hash, 5, i), nfttest.SYN))
		must(t, p.Apply(heldBy(uint64(2*i+3), inState(false, state, 5))))
		before, _ := o.counters()
		k.decide(Pass, held...)
		if now, _ := o.counters(); now != before+1 {
			t.Errorf("%s: not passed", state)
		}
	}
}

// Without a program that has bound the queue, packets are dropped: those that
// wait and those that come. A new one begins anew.
func TestQueueProgramDead(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		w.serve()
		p := w.plane()
		k := w.keep(p)
		must(t, p.Apply(heldBy(1, inState(v6, "take", 5))))
		must(t, p.Lease(time.Now().Add(time.Hour)))
		o := w.observer()
		client := clientOfIP(v6, ownAll().Hash, 5, 0)
		_, held := k.send(o, udp(client, 80))
		must(t, k.stop())
		k.decide(Pass, held...)
		for _, packet := range []nfttest.Packet{udp(client, 80), tcp(client, nfttest.SYN)} {
			if o.passed(packet) != 0 {
				t.Error("a packet passed without a program")
			}
		}
		if shared, _ := o.counters(); shared != 0 {
			t.Error("what waited has passed")
		}
		k = w.keep(p)
		if _, ok := p.ns.readQueueUse(); !ok {
			t.Fatal("not bound again")
		}
		before := held // of the earlier program; the kernel numbers them anew
		_, held = k.send2(o, udp(client, 80))
		k.decide(Pass, before...)
		if shared, _ := o.counters(); shared != 0 {
			t.Error("a verdict on another packet let one in")
		}
		if len(held) != 1 || o.passed(udp(clientOfIP(v6, ownAll().Hash, 5, 1), 80)) != 0 {
			t.Fatal("not held again")
		}
		k.decide(Pass, held...)
		if shared, _ := o.counters(); shared != 1 {
			t.Errorf("%d packets passed, want 1", shared)
		}
	})
}

// Another program on our queue is an error that names it, and a second Hold
// of the same plane is refused.
func TestQueueTaken(t *testing.T) {
	w := newWorld(t)
	first, second := w.plane(), w.plane()
	k := w.keep(first)
	for range 2 {
		err := second.Hold(context.Background(), func() { t.Error("ready") }, func([]HeldPacket) {})
		if !errors.Is(err, ErrQueueTaken) {
			t.Fatalf("error %v", err)
		}
	}
	if err := first.Hold(context.Background(), func() { t.Error("ready") }, func([]HeldPacket) {}); !errors.Is(err, ErrHolding) {
		t.Fatalf("error %v", err)
	}
	must(t, k.stop())
	w.keep(second)
}

// Another program that has our queue is given nothing, be it there before us
// or after our end: it might let the packets in.
func TestQueueOfAnotherProgram(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		w.serve()
		p, other := w.plane(), w.plane()
		leasedHold(t, p, inState(v6, "take", 5))
		o := w.observer()
		client := clientOfIP(v6, ownAll().Hash, 5, 0)
		nothing := func(when string) {
			t.Helper()
			q, err := other.openQueue()
			must(t, err)
			defer func() { must(t, q.close()) }()
			must(t, q.packets(func(uint32, []byte) {})) // the answer to the binding
			if err := p.Hold(t.Context(), func() { t.Error("ready") }, func([]HeldPacket) {}); !errors.Is(err, ErrQueueTaken) {
				t.Fatalf("error %v", err)
			}
			for _, packet := range []nfttest.Packet{udp(client, 80), tcp(client, nfttest.SYN)} {
				o.passed(packet)
			}
			if use, ok := p.ns.readQueueUse(); !ok || use.sequence != 0 {
				t.Errorf("%s: another program was given %d packets", when, use.sequence)
			}
		}
		nothing("before us")
		k := w.keep(p)
		_, held := k.send2(o, udp(client, 80))
		k.decide(Drop, held...)
		must(t, k.stop())
		nothing("after us")
		// What others do to the rules does not change that; nor is it forgotten
		// that the queue is ours.
		for _, ours := range []bool{false, true} {
			if ours {
				k = w.keep(p)
			}
			p.Resync()
			w.node.Do(func() {
				c, err := nftables.New()
				must(t, err)
				c.DelTable(tableOf(inet))
				must(t, c.Flush())
			})
			must(t, p.Apply(heldBy(2, inState(v6, "take", 5))))
			must(t, p.Lease(time.Now().Add(time.Hour)))
			if !ours {
				nothing("rules made anew")
				continue
			}
			_, held := k.send2(o, udp(client, 80))
			k.decide(Drop, held...)
		}
	})
}

// A queue that is full, or whose socket is, drops what comes and goes on.
func TestQueueFull(t *testing.T) {
	for name, limit := range map[string]func(*holder){
		"queue":  func(h *holder) { h.length = 5 },
		"socket": func(h *holder) { h.buffer = 1 }, // the kernel has a least size
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.serve()
			p := w.plane()
			limit(&p.holds)
			pause := make(chan struct{})
			k := w.keepWith(p, pause)
			must(t, p.Apply(heldBy(1, inState(false, "take", 5))))
			must(t, p.Lease(time.Now().Add(time.Hour)))
			o := w.observer()
			const sent = 60
			for i := range sent {
				if o.passed(udp(clientOf(ownAll().Hash, 5, i%10), 80)) != 0 {
					t.Fatal("a packet passed")
				}
			}
			close(pause)
			lost := p.HoldUse().Lost
			if lost == 0 || lost >= sent {
				t.Fatalf("%d of %d packets lost", lost, sent)
			}
			k.decide(Drop, k.wait(sent-int(lost))...)
			_, held := k.send2(o, udp(clientOf(ownAll().Hash, 5, 0), 80))
			k.decide(Pass, held...)
			if shared, _ := o.counters(); shared != 1 {
				t.Errorf("%d packets passed, want 1", shared)
			}
		})
	}
}

// send2 is send where packets were lost or an earlier program had the queue.
func (k *keeper) send2(o *observer, p nfttest.Packet) (passed int, held []HeldPacket) {
	k.t.Helper()
	return o.passed(p), k.wait(1)
}

// What nobody decides about does not wait for ever.
func TestHeldPacketsExpire(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	p.holds.limit = HoldLimit / 30
	k := w.keep(p)
	must(t, p.Apply(heldBy(1, inState(false, "take", 5))))
	must(t, p.Lease(time.Now().Add(time.Hour)))
	o := w.observer()
	_, held := k.send2(o, udp(clientOf(ownAll().Hash, 5, 0), 80))
	eventually(t, "the packet's end", func() bool { return p.HoldUse().Expired == 1 })
	k.decide(Pass, held...)
	if shared, _ := o.counters(); shared != 0 || p.HoldUse().Waiting != 0 {
		t.Error("it passed, or waits still")
	}
}

// A kernel without a queue, or one that is to be taken for such: the rules
// are those without hold.
func TestKernelWithoutQueue(t *testing.T) {
	w := newWorld(t)
	p := w.plane(WithoutQueue())
	var unsupported *UnsupportedError
	if err := p.Hold(context.Background(), func() { t.Error("ready") }, nil); !errors.As(err, &unsupported) || p.Queue() != QueueNone {
		t.Errorf("error %v, queue %v", err, p.Queue())
	}
	rs := heldBy(1, inState(false, "take", 5))
	must(t, p.Apply(rs))
	w.mustHold(rs)
	must(t, p.Lease(time.Now().Add(time.Hour)))
	o := w.observer()
	client := clientOf(ownAll().Hash, 5, 0)
	if o.passed(udp(client, 80))+o.passed(tcp(client, nfttest.SYN)) != 0 {
		t.Error("what is to be taken passed")
	}
	must(t, p.Apply(heldBy(2, inState(false, "inherit", 5))))
	if o.passed(udp(client, 80)) != 1 {
		t.Error("what is inherited did not pass")
	}
}

// The switch turns with packets under way and back.
func TestHoldSwitch(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	s := holding(web(buckets(0, 7), buckets(8, 9), buckets(10, 11)))
	for i := range 4 {
		rs := Ruleset{Index: uint64(i + 1), Hold: i%2 == 1, Services: []Service{s}}
		must(t, p.Apply(rs))
		w.mustHold(rs)
		if i%2 == 1 { // another process finds it so
			must(t, w.plane().Apply(rs))
			w.mustHold(rs)
		}
	}
}
