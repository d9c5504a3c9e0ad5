package sim

import (
	"slices"
	"testing"
	"time"

	"earshot/raftstore"
)

// script is a schedule that chance seldom finds.
func script(t *testing.T, nodes int, play func(w *world)) {
	t.Helper()
	for seed := range uint64(5) {
		s := setting{seed: seed, nodes: nodes, lease: 300 * time.Millisecond}
		o := bubble(t, s, func(w *world) {
			if w.begin() {
				time.Sleep(12 * w.timing.Lease) // the first leader judges from now on
				play(w)
				w.settle("script", time.Minute)
			}
		})
		if o.violation != "" {
			t.Fatalf("%s, seed %d: %s\n%s", t.Name(), seed, o.violation, o.story)
		}
	}
}

// followers are the nodes that do not lead.
func (w *world) followers() []*node {
	leader := w.leader()
	return slices.DeleteFunc(slices.Clone(w.all()), func(n *node) bool { return n == leader })
}

// TestLeaderWithAHungDiskIsCutOffP2: its Raft waits for the disk and learns of
// no election, so that it believes to lead when it is back. The voters know
// better.
func TestLeaderWithAHungDiskIsCutOffP2(t *testing.T) {
	script(t, 3, func(w *world) {
		_, mend, release := w.unaware()
		mend()
		time.Sleep(2 * w.timing.Lease)
		release()
	})
}

// TestAVoterThatStartsP2: such a leader is back while a voter that has elected
// another starts anew, and has not read yet which term it is of. Nor does the new
// leader reach it.
func TestAVoterThatStartsP2(t *testing.T) {
	script(t, 3, func(w *world) {
		old, mend, release := w.unaware()
		leader := w.leader()
		voter := w.all()[slices.IndexFunc(w.all(), func(n *node) bool { return n != old && n != leader })]
		voter.kill()
		voter.disk.set(func(d *disk) { d.latency = w.timing.Lease / 2 })
		w.cut(leader, voter, 1)
		mend()
		voter.start()
		time.Sleep(4 * w.timing.Lease)
		w.cut(leader, voter, -1)
		voter.disk.set(func(d *disk) { d.latency = time.Millisecond })
		release()
	})
}

// unaware has a leader that cannot learn that another was elected, and that it
// was judged dead: its disk hangs and it is cut off.
func (w *world) unaware() (old *node, mend, release func()) {
	old = w.leader()
	release = old.disk.stall()
	w.timers.Go(func() { w.operator.pinAll(old) }) // something to write
	time.Sleep(10 * time.Millisecond)
	mend = cutOff(w, old, 0)
	p := old.running()
	for end := time.Now().Add(4 * w.timing.Lease); p.leads() && time.Now().Before(end); time.Sleep(time.Millisecond) {
		if next := w.leader(); next != nil && next != old && next.running().store.State().Nodes[old.name].Failed {
			break
		}
	}
	if !p.leads() {
		w.judge.fail("the script has missed: %s leads no more", old.name)
	}
	return old, mend, release
}

// TestHeardWhileItsDeathWaitsForTheDiskP4: a node is silent until it is judged;
// its death waits for the leader's disk; meanwhile it asks for a lease. What the
// leader's log has by then does not name the death yet.
func TestHeardWhileItsDeathWaitsForTheDiskP4(t *testing.T) {
	script(t, 3, func(w *world) {
		leader, silent := w.leader(), w.followers()[0]
		thaw := silent.running().freeze()
		time.Sleep(280 * time.Millisecond)
		release := leader.disk.stall()
		time.Sleep(130 * time.Millisecond) // judged by now
		thaw()
		time.Sleep(150 * time.Millisecond)
		release()
		time.Sleep(time.Second)
	})
}

// TestFollowerWhoseDiskHangsP5: it renews, since that needs no disk, and cannot
// take what it is given.
func TestFollowerWhoseDiskHangsP5(t *testing.T) {
	script(t, 3, func(w *world) {
		stuck := w.followers()[0]
		release := stuck.disk.stall()
		w.judge.expect("a disk that hangs", bounded(7)(w))
		w.operator.pinAll(stuck)
		time.Sleep(20 * w.timing.Lease)
		w.judge.look()
		release()
	})
}

// TestAnswersThatComeTooLateP5: its requests arrive, it follows the map, and no
// grant is back before it gives up.
func TestAnswersThatComeTooLateP5(t *testing.T) {
	script(t, 3, func(w *world) {
		far := w.followers()[0]
		slow := w.timing.Lease / 4
		mend := w.onLinks(far, func(o *node, sign int) {
			w.network.change(far.i, o.i, func(l *link) { l.slow += time.Duration(sign) * slow })
			w.network.change(o.i, far.i, func(l *link) { l.slow += time.Duration(sign) * slow })
		})
		w.judge.expect("a node that is far away", bounded(4)(w))
		time.Sleep(20 * w.timing.Lease)
		w.judge.look()
		mend()
	})
}

// TestLeaderWhoseDiskHangsP10: its heartbeats and its grants need no disk, but
// nobody buries a node that dies meanwhile.
func TestLeaderWhoseDiskHangsP10(t *testing.T) {
	script(t, 5, func(w *world) {
		release := w.leader().disk.stall()
		dead := w.followers()[0]
		dead.kill()
		// One until the silence is noticed, two for the death, two for the proof
		// that nothing can be committed, one to hand over; an election, and the
		// next leader's wait.
		w.judge.expect("a leader that cannot bury", bounded(9)(w))
		time.Sleep(20 * w.timing.Lease)
		w.judge.look()
		release()
		dead.start()
	})
}

// TestTwoCandidatesOfOneTermP9: they do not hear each other, and ask the third
// node for its vote at the same time.
func TestTwoCandidatesOfOneTermP9(t *testing.T) {
	script(t, 3, func(w *world) {
		for range 4 {
			third := w.leader()
			a, b := w.followers()[0], w.followers()[1]
			w.cut(a, b, 1)
			w.cut(b, a, 1)
			thaw := third.running().freeze()
			time.Sleep(w.timing.Lease * 3 / 5)
			thaw()
			for range 20 {
				time.Sleep(w.timing.Lease / 20)
				for i, n := range []*node{a, b} {
					w.timers.Go(func() { w.operator.pin(n, i, w.all()[i]) })
				}
			}
			w.cut(a, b, -1)
			w.cut(b, a, -1)
			if !w.settle("two candidates", time.Minute) {
				return
			}
		}
	})
}

// TestRestartOverAHandoffP11: what a restarting agent has on its disk ends
// before the map in its kernel, under a lease of 10 s.
func TestRestartOverAHandoffP11(t *testing.T) {
	script(t, 3, func(w *world) {
		n := w.followers()[0]
		for range 3 {
			w.operator.pinAll(n)
			time.Sleep(time.Second)
			w.operator.pinAll(w.leader())
			time.Sleep(4 * time.Second)
			n.stop()
			time.Sleep(100 * time.Millisecond)
			n.start()
			time.Sleep(time.Second)
		}
	})
}

// TestLeaderHandsOverAndDiesP6: no time goes by in an election. The kernel of the
// leader before answers for the rest of its lease.
func TestLeaderHandsOverAndDiesP6(t *testing.T) {
	script(t, 3, func(w *world) {
		for range 3 {
			leader := w.leader()
			ctx, cancel := timeout(time.Second)
			_ = leader.running().store.Transfer(ctx)
			cancel()
			for w.leader() == nil || w.leader() == leader {
				time.Sleep(time.Millisecond)
			}
			leader.kill()
			time.Sleep(3 * w.timing.Lease)
			leader.start()
			time.Sleep(12 * w.timing.Lease)
		}
	})
}

// TestALeaderThatIsStuckLeavesNobodyWaiting: it offers the leadership, cannot
// see its own offer for its disk, and ends (rule P10). synctest panics if
// somebody waits for Raft's answer then.
func TestALeaderThatIsStuckLeavesNobodyWaiting(t *testing.T) {
	script(t, 3, func(w *world) {
		for range 3 {
			release := w.leader().disk.stall()
			time.Sleep(10 * w.timing.Lease)
			release()
			w.settle("a disk that hangs", time.Minute)
		}
	})
}

// TestADeathThatIsHeldUpP7: a leader judges a node and is held up before it
// proposes. Meanwhile the node lives again, another leads and gives it a lease,
// and hands over to the first: it leads again when its proposal comes.
func TestADeathThatIsHeldUpP7(t *testing.T) {
	script(t, 3, func(w *world) {
		first, silent := w.leader(), w.followers()[0]
		p := first.running()
		judged, goOn := make(chan struct{}), make(chan struct{})
		p.mu.Lock()
		p.holder = func(c raftstore.Command) <-chan struct{} {
			if c.Death == nil || c.Death.Node != silent.name {
				return nil
			}
			close(judged)
			p.mu.Lock()
			p.holder = nil
			p.mu.Unlock()
			return goOn
		}
		p.mu.Unlock()
		thaw := silent.running().freeze()
		<-judged
		thaw()
		other := w.followers()[1]
		w.handTo(other)
		for w.judge.left(silent.i) == 0 {
			time.Sleep(time.Millisecond)
		}
		w.handTo(first)
		w.network.change(first.i, silent.i, func(l *link) { l.slow = 20 * time.Millisecond })
		close(goOn)
		time.Sleep(w.timing.Lease)
		w.network.change(first.i, silent.i, func(l *link) { l.slow = 0 })
	})
}

// handTo makes a node the leader.
func (w *world) handTo(n *node) {
	for end := time.Now().Add(time.Minute); w.leader() != n && time.Now().Before(end); {
		if leader := w.leader(); leader != nil {
			ctx, cancel := timeout(w.timing.Lease)
			_ = leader.running().store.Transfer(ctx)
			cancel()
		}
		time.Sleep(time.Millisecond)
	}
}

// fresh waits until a node's lease is nearly as long as one can be.
func (w *world) fresh(n *node) {
	for end := time.Now().Add(10 * w.timing.Lease); w.judge.left(n.i) < w.timing.Lease*17/20 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// TestALeaderOfAMomentP6: it leads for so short a time that its kernel has a
// full lease of the leader before it still, and dies.
func TestALeaderOfAMomentP6(t *testing.T) {
	script(t, 3, func(w *world) {
		for range 4 {
			moment, next := w.followers()[0], w.followers()[1]
			w.fresh(moment)
			w.handTo(moment)
			w.handTo(next)
			moment.kill()
			time.Sleep(3 * w.timing.Lease)
			moment.start()
			time.Sleep(12 * w.timing.Lease)
		}
	})
}

// TestANodeThatDiesAtAHandoverP6: no time goes by in the election, and the
// leader before granted a lease just now.
func TestANodeThatDiesAtAHandoverP6(t *testing.T) {
	script(t, 3, func(w *world) {
		for range 3 {
			dies, next := w.followers()[0], w.followers()[1]
			w.fresh(dies)
			w.handTo(next)
			dies.kill()
			time.Sleep(3 * w.timing.Lease)
			dies.start()
			time.Sleep(12 * w.timing.Lease)
		}
	})
}

// TestTwoMovesInARowP12: the first owner is slow to let go of buckets, and the
// second never has them.
func TestTwoMovesInARowP12(t *testing.T) {
	script(t, 3, func(w *world) {
		first, second, third := w.followers()[0], w.followers()[1], w.leader()
		if w.seed%2 == 1 {
			first, second = second, first
		}
		w.operator.pinAll(first)
		time.Sleep(10 * w.timing.Lease)
		first.kernel.takeTime(w.timing.Lease / 2)
		w.operator.pinAll(second)
		w.operator.pinAll(third)
		time.Sleep(4 * w.timing.Lease)
		first.kernel.takeTime(0)
	})
}

// TestAGiverThatDiesP14: it was told to give its buckets away and dies before it
// has released them. Its heir waits for it until the death is committed.
func TestAGiverThatDiesP14(t *testing.T) {
	script(t, 3, func(w *world) {
		giver, heir := w.followers()[0], w.followers()[1]
		w.judge.expect("a giver that dies", bounded(4)(w))
		giver.kill()
		w.operator.pinAll(heir)
		time.Sleep(20 * w.timing.Lease)
		w.judge.look()
		giver.start()
	})
}
