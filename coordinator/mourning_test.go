package coordinator

import (
	"testing"
	"testing/synctest"

	"earshot/nft"
	"earshot/raftstore"
)

// TestADeathCostsNothingWhereTheDeadHadNoPart: just after a death, the drain of a
// living node ends while a datagram is held in its bucket. The dead one cannot
// have answered that: it is let in.
func TestADeathCostsNothingWhereTheDeadHadNoPart(t *testing.T) {
	for name, before := range map[string]func(q *inquest){
		"another node's bucket": func(q *inquest) {
			q.seen(func() { q.die("c") })
		},
		"a bucket that has moved since": func(q *inquest) {
			q.seen(func() { q.pin("0", "c"); q.pin("0", "b") })
			q.seen(func() { q.die("c") })
			q.seen(func() { q.pin("0", "a"); q.pin("0", "b") })
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newInquest(t)
				q.seen(func() { q.join("c", 1) })
				before(q)
				q.seen(func() {
					q.must(raftstore.Command{EndDrain: &raftstore.EndDrain{Node: "a", Service: "web", Buckets: "0", Seen: 1000}})
				})
				q.packet(1, "192.0.2.1:1")
				if v := q.after(holdRetry, 1); v != nft.Pass {
					t.Errorf("verdict %d", v)
				}
			})
		})
	}
}

// heirOfTwo is an asker of b, whose bucket comes from c, and before from a, and
// which knows what is released.
func heirOfTwo(t *testing.T, know levels) *inquest {
	h := newHistory(t)
	for _, n := range []string{"a", "b", "c"} {
		h.join(n, 1)
	}
	h.define("web", 1)
	for _, n := range []string{"a", "c", "b"} {
		h.pin("0", n)
	}
	q := inquestOf(t, h)
	q.news.learn(know)
	q.seen(func() {})
	return q
}

// ends has a node end its drain of bucket 0.
func (q *inquest) ends(node string) {
	q.must(raftstore.Command{EndDrain: &raftstore.EndDrain{Node: node, Service: "web", Buckets: "0", Seen: 1000}})
}

// TestFlowsOfADrainThatHasEndedAreAskedAboutAgain: while another former owner
// drains, b goes by whose the flows are that it has asked about, and those of the
// first are nobody's. When the last has ended, b asks about none.
func TestFlowsOfADrainThatHasEndedAreAskedAboutAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := heirOfTwo(t, released("a", 1000, "c", 1000))
		for _, step := range []struct {
			what string
			do   func()
			want int
		}{
			{"another service", func() { q.define("mail", 1) }, 0},
			{"a's end", func() { q.ends("a") }, 1},
			{"nothing more", func() { q.join("d", 1) }, 1},
			{"c's end", func() { q.ends("c") }, 1},
		} {
			if q.seen(step.do); q.kernel.askedAgain != step.want {
				t.Fatalf("after %s: asked again %d times, want %d", step.what, q.kernel.askedAgain, step.want)
			}
		}
	})
}

// TestADrainThatEndsWhileAnotherHasTheBucketIsHeardOf: b remembers flows as a's.
// The bucket may come back to it soon.
func TestADrainThatEndsWhileAnotherHasTheBucketIsHeardOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := heirOfTwo(t, released("a", 1000, "c", 1000))
		q.seen(func() {
			q.join("d", 1)
			q.pin("0", "d")
		})
		if q.kernel.askedAgain != 0 {
			t.Fatal("asked again when the bucket moved")
		}
		if q.seen(func() { q.ends("a") }); q.kernel.askedAgain != 1 {
			t.Fatalf("asked again %d times after a's end", q.kernel.askedAgain)
		}
	})
}

// TestTheWordOfADrainThatHasEndedIsNotRemembered: a says that a flow is its own,
// and ends its drain before b has heard that.
func TestTheWordOfADrainThatHasEndedIsNotRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := heirOfTwo(t, released("a", 1000, "c", 1000))
		q.theirs[flowOf(nft.UDP, "192.0.2.1:1")] = true
		q.packet(1, "192.0.2.1:1")
		if v := q.after(holdRetry, 1); v != nft.Theirs {
			t.Fatalf("verdict %d while a drains", v)
		}
		q.asking = func() {
			q.asking = nil
			q.store.mu.Lock()
			defer q.store.mu.Unlock()
			q.ends("a")
		}
		q.packet(2, "192.0.2.1:1")
		if v := q.after(holdRetry, 2); v != nft.Drop {
			t.Errorf("verdict %d about what a may have answered", v)
		}
	})
}

// TestWhatADeadOwnerMayHaveAnsweredIsNotAskedOfTheOthers: c had not released the
// bucket when it died, and a, who drains it, too, cannot speak for c. What comes
// later is a's or nobody's.
func TestWhatADeadOwnerMayHaveAnsweredIsNotAskedOfTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := heirOfTwo(t, released("a", 1000))
		q.packet(1, "192.0.2.1:1")
		if v := q.after(holdRetry, 1); v != -1 {
			t.Fatalf("verdict %d before c's release", v)
		}
		q.seen(func() { q.die("c") })
		if v := q.after(2*holdRetry, 1); v != nft.Drop {
			t.Errorf("verdict %d about a packet that the dead node may have answered", v)
		}
		q.packet(2, "192.0.2.1:1")
		if v := q.after(holdRetry, 2); v != nft.Pass {
			t.Errorf("verdict %d about a new one", v)
		}
	})
}
