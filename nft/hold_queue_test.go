package nft

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/nftables"

	"earshot/nft/nfttest"
)

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

// Queued tells what is still on its way to the judge, of packets that the
// judge is not given, too, and begins anew with a new program.
func TestQueuedTellsWhatIsStillToBeRead(t *testing.T) {
	w := newWorld(t)
	w.serve()
	p := w.plane()
	if last, judged := p.Queued(); last != 0 || judged != 0 {
		t.Fatalf("%x, %x without a program", last, judged)
	}
	leasedHold(t, p, inState(false, "take", 5))
	pause := make(chan struct{})
	k := w.keepWith(p, pause)
	o := w.observer()
	begin, judged := p.Queued()
	if begin != judged {
		t.Fatalf("%x, %x before anything came", begin, judged)
	}
	o.passed(udp(clientOfIP(false, ownAll().Hash, 5, 0), 80))
	eventually(t, "a packet queued", func() bool {
		last, judged := p.Queued()
		return last == begin+1 && judged == begin
	})
	close(pause)
	held := k.wait(1)
	if held[0].ID != begin+1 {
		t.Errorf("the judge was given %x, want %x", held[0].ID, begin+1)
	}
	eventually(t, "it read", func() bool {
		last, judged := p.Queued()
		return last == begin+1 && judged == last
	})
	must(t, k.stop())
	w.keep(p)
	if last, judged := p.Queued(); last != judged || last <= begin+1 {
		t.Errorf("%x, %x with a new program", last, judged)
	}
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
