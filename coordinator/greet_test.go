package coordinator

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"earshot/raftstore"
)

// TestEachNewLeaderIsAskedOnceAtOnce: who it is and in which term decide, and a
// node that leads itself is asked when it has taken office.
func TestEachNewLeaderIsAskedOnceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const renew = 50 * time.Millisecond
		asked := 0
		g := greeting{renew: renew, ask: func() { asked++ }}
		for i, tc := range []struct {
			lead  raftstore.Leadership
			ready bool
			asked int
		}{
			{raftstore.Leadership{Term: 1}, false, 0},
			{raftstore.Leadership{Term: 1, Addr: "a:7440"}, false, 1},
			{raftstore.Leadership{Term: 1, Addr: "a:7440"}, false, 1},
			{raftstore.Leadership{Term: 1}, false, 1},
			{raftstore.Leadership{Term: 2}, false, 1},
			{raftstore.Leadership{Term: 2, Addr: "b:7440", Self: true}, false, 1},
			{raftstore.Leadership{Term: 2, Addr: "b:7440", Self: true}, true, 2},
			{raftstore.Leadership{Term: 2, Addr: "b:7440", Self: true}, true, 2},
			{raftstore.Leadership{Term: 3, Addr: "b:7440", Self: true}, true, 3},
			{raftstore.Leadership{Term: 4, Addr: "c:7440"}, false, 4},
		} {
			g.look(tc.lead, tc.ready, 3)
			if time.Sleep(renew/10 + 1); asked != tc.asked {
				t.Fatalf("%d: asked %d times of %+v, not %d", i, asked, tc.lead, tc.asked)
			}
		}
	})
}

// TestManyNodesDoNotAskANewLeaderAtTheSameMoment: they take the time between two
// renewals for it.
func TestManyNodesDoNotAskANewLeaderAtTheSameMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const nodes, renew = 200, 50 * time.Millisecond
		began := time.Now()
		var early, late int
		for range nodes {
			g := greeting{renew: renew, ask: func() {
				if time.Since(began) < renew/2 {
					early++
				} else {
					late++
				}
			}}
			g.look(raftstore.Leadership{Term: 1, Addr: "a:7440"}, false, nodes)
		}
		time.Sleep(renew + 1)
		synctest.Wait()
		if early+late != nodes || min(early, late) < nodes/4 {
			t.Errorf("of %d nodes %d asked in the first half and %d in the second", nodes, early, late)
		}
	})
}

// TestANewLeaderAnswersAsSoonAsItMay: a node that asks before the leader knows
// its own log is not sent away for a sixth of a lease. One that never gets there
// says so in time for the next try.
func TestANewLeaderAnswersAsSoonAsItMay(t *testing.T) {
	for name, after := range map[string]time.Duration{"soon": 50 * time.Millisecond, "never": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHistory(t)
				h.join("a", 1)
				e := &electorate{terms: map[string]uint64{"b:7440": testTerm, "c:7440": testTerm}}
				e.history, e.lead = h, raftstore.Leadership{Term: testTerm, Self: true}
				q := e.quorum(t)
				l := &leader{
					store: e, timing: q.timing, ledger: &ledger{timing: q.timing}, quorum: q, news: newNews(),
					log: slog.New(slog.DiscardHandler), wake: make(chan struct{}, 1),
				}
				l.ledger.begin(testTerm, time.Now(), 0)
				time.AfterFunc(after, func() { l.ledger.setReady(testTerm) })
				asked := time.Now()
				_, err := l.grantTo(t.Context(), renewal{Node: "a", ServerID: "id-a", Process: 1})
				took := time.Since(asked)
				if ready := after <= q.timing.Lease; (err == nil) != ready || took > min(after, q.timing.Lease/3)+4*q.timing.Gather {
					t.Errorf("%v after %v", err, took)
				}
				time.Sleep(after) // until the timer is gone
			})
		})
	}
}
