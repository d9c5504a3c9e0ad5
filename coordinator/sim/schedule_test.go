package sim

import (
	"context"
	"math"
	"testing/synctest"
	"time"
)

func timeout(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}

// length is a random length of a fault: from a twentieth of a lease to eight.
func (w *world) length() time.Duration {
	leases := math.Exp(math.Log(0.05) + w.fate.float()*math.Log(8/0.05))
	return time.Duration(leases * float64(w.timing.Lease))
}

// victim is the leader as often as not.
func (w *world) victim() *node {
	if leader := w.leader(); leader != nil && w.fate.chance(0.5) {
		return leader
	}
	return w.all()[w.fate.below(len(w.all()))]
}

// calm makes one fault, beside the operator's commands, and waits until the
// cluster has got over it. No bucket is without an opener for longer than the
// fault's bound (I2).
func (w *world) calm() bool {
	all := faults()
	f := all[w.fate.below(len(all))]
	w.judge.expect("rest", 0)
	for _, n := range w.all() {
		if w.in() < min(3, w.answering()) {
			w.operator.restore(n)
		}
	}
	// Let what is still under way arrive, since it belongs to the fault before,
	// and a leader that has just started judge again.
	time.Sleep(w.timing.Lease + 2*resend)
	if leader := w.leader(); leader != nil {
		if p := leader.running(); p != nil {
			time.Sleep(12*w.timing.Lease - time.Since(p.started))
		}
	}
	if !w.settle("rest", 60*time.Second+60*w.timing.Lease) {
		return false
	}
	victim, length := w.victim(), w.length()
	w.judge.expect(f.name, f.bound(w))
	w.make(f, victim, length)
	for range w.fate.below(3) {
		time.Sleep(w.fate.upTo(w.timing.Lease))
		w.operator.act(true)
	}
	time.Sleep(w.fate.upTo(w.timing.Lease / 4))
	return w.recover(f.name)
}

// storm makes several faults at once, of which the cluster need only recover.
func (w *world) storm() bool {
	w.judge.expect("storm", 0)
	all := faults()
	for range 3 + w.fate.below(12) {
		w.make(all[w.fate.below(len(all))], w.victim(), w.length())
		if w.fate.chance(0.3) {
			w.operator.act(false)
		}
		// Close to each other, or some leases apart.
		time.Sleep(w.fate.upTo(time.Duration(w.fate.float() * 3 * float64(w.timing.Lease))))
		if !w.judge.ok() {
			return false
		}
	}
	return w.recover("storm")
}

// blackout kills everything at once.
func (w *world) blackout() bool {
	w.judge.expect("blackout", 0)
	w.history.fault("kill everything")
	w.faults++
	for _, n := range w.all() {
		n.kill()
		if w.fate.chance(0.5) {
			n.kernel.reboot()
		}
	}
	for _, n := range w.all() {
		w.after(w.fate.upTo(4*w.timing.Lease), n.start)
	}
	time.Sleep(4 * w.timing.Lease)
	return w.recover("blackout")
}

// make makes a fault and has it mended when its time is over.
func (w *world) make(f fault, victim *node, length time.Duration) {
	synctest.Wait()
	w.faults++
	role := "a follower"
	if victim == w.leader() {
		role = "the leader"
	}
	w.history.fault("%s: %s, %s, for %v", f.name, victim.name, role, length)
	mend := f.do(w, victim, length)
	w.active.Add(1)
	w.after(length, func() {
		w.history.note(victim, "mended: %s", f.name)
		mend()
		w.active.Add(-1)
	})
}

// recover waits until the cluster is at rest again. The operator brings in
// whom it took out, now or later.
func (w *world) recover(after string) bool {
	limit := 60*time.Second + 60*w.timing.Lease
	if w.fate.chance(0.3) {
		for _, n := range w.all() {
			w.operator.restore(n)
		}
	}
	settled := w.settle(after, limit)
	w.wiped = false
	return settled
}

// join adds a node to the cluster.
func (w *world) join() bool {
	n := w.add(w.fate.chance(0.25))
	w.judge.expect("join", bounded(4)(w))
	w.history.fault("join of %s", n.name)
	n.start()
	return w.settle("join", 60*time.Second+60*w.timing.Lease)
}

// live runs a schedule for so much simulated time.
func (w *world) live(until time.Duration) {
	if !w.begin() {
		return
	}
	for time.Since(w.history.began) < until && w.judge.ok() {
		switch x := w.fate.float(); {
		case x < 0.01 && len(w.all()) < min(mostNodes, w.first+2):
			w.join()
		case x < 0.03:
			w.blackout()
		case x < 0.3:
			w.storm()
		default:
			w.calm()
		}
	}
}
