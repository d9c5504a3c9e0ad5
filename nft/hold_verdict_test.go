package nft

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/nftables"

	"earshot/hashmode"
	"earshot/nft/nfttest"
)

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
	if tcp { // it may be of a connection that others have by now
		k.decide(Drop, expect("SYN after Pass", three[1], "hold")...)
	} else {
		expect("after Pass", three[1], "pass")
	}
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
