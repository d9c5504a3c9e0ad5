package nft

import (
	"context"
	"sync"
	"testing"

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

// heldBy is a ruleset of services whose rules hold.
func heldBy(index uint64, services ...Service) Ruleset {
	return Ruleset{Index: index, Hold: true, Services: services}
}

// inState is a service of web's kind with one bucket in a state.
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

// send2 is send where packets were lost or an earlier program had the queue.
func (k *keeper) send2(o *observer, p nfttest.Packet) (passed int, held []HeldPacket) {
	k.t.Helper()
	return o.passed(p), k.wait(1)
}
