package coordinator

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"earshot/raftstore"
)

// patient is node a, which leads by a lease of 3 s, while b has one of 300 ms.
func patient(t *testing.T) (*Coordinator, *modelStore) {
	h := newHistory(t)
	for _, n := range []string{"a", "b"} {
		h.join(n, 1)
	}
	h.define("web", 4)
	h.replan()
	h.must(raftstore.Command{Profile: &raftstore.Profile{Node: "b", ServerID: "id-b", Weight: 1, Lease: 300 * time.Millisecond}})
	timing, err := NewTiming(3*time.Second, 4*time.Millisecond, 0)
	if err != nil {
		t.Fatal(err)
	}
	store := &modelStore{history: h, lead: raftstore.Leadership{Term: testTerm, Addr: "a:7440", Self: true}}
	return New(Config{Node: "a", Timing: timing}, store, &modelKernel{}, noPeers{}, slog.New(slog.DiscardHandler)), store
}

// A leader that was stopped for a third of the node's lease, be that a moment of
// its own, has not heard the node for as long.
func TestALeaderThatWasStoppedJudgesNoShorterLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, store := patient(t)
		work := func(d time.Duration, heard ...string) {
			t.Helper()
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(25 * time.Millisecond) {
				for _, n := range heard {
					index := store.State().Index
					r := renewal{Node: n, ServerID: "id-" + n, Process: 1, level: level{Held: index, Released: index}}
					if _, err := c.leader.ledger.grant(time.Now(), testTerm, store.State, r, 0, store.LastChange); err != nil {
						t.Fatal(err)
					}
				}
				if err := c.leader.step(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		work(25 * time.Millisecond)
		work((startGrace+2)*3*time.Second, "a", "b")
		time.Sleep(800 * time.Millisecond)
		work(25 * time.Millisecond)
		if store.State().Nodes["b"].Failed {
			t.Error("judged by who did not listen")
		}
		work(2*time.Second, "a")
		if !store.State().Nodes["b"].Failed {
			t.Error("silent, and not judged")
		}
		c.leader.succeeding.Wait()
	})
}

// It looks often enough to know that it was not stopped.
func TestALeaderWithALongerLeaseJudges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, store := patient(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx, newIdleListener(), func() {}) }()
		time.Sleep((startGrace + 2) * 3 * time.Second)
		if !store.State().Nodes["b"].Failed {
			t.Error("silent for half a minute, and not judged")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Nor does it keep nodes waiting for as long as its own lease would allow.
func TestRequestsOfAShorterLeaseDoNotWaitForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := patient(t)
		began := time.Now()
		if err := c.leader.quorum.confirm(t.Context(), testTerm); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 5*time.Millisecond {
			t.Errorf("asked after %v", took)
		}
	})
}
