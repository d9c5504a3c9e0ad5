package coordinator

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"earshot/raftstore"
)

// A node that stops while it takes buckets stops when it has: in those that it
// is taking, nobody would ask whose the flows are.
func TestLeavingNodeFinishesTaking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := twoWithChecks(t, raftstore.OnFailDrain)
		defer s.stop()
		pin := &raftstore.Pin{Service: "web", Buckets: "0-3", Node: "a"}
		if err := s.executeOnce(t.Context(), raftstore.Command{Pin: pin}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
		if s.kernel.service("web").Take.Empty() {
			t.Fatal("nothing is being taken")
		}
		leaving, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		s.Leave(leaving)
		if got := s.kernel.service("web").Take; !got.Empty() || leaving.Err() != nil {
			t.Errorf("%s are still being taken (%v)", got, leaving.Err())
		}
	})
}

// A node that has given buckets away answers the questions about them before it
// stops: for a lease their new owners ask about every SYN. One that has given
// nothing away lately does not wait.
func TestLeavingNodeAnswersTheLastQuestions(t *testing.T) {
	for name, tc := range map[string]struct {
		before      time.Duration // from the move until the stop
		least, most time.Duration
	}{
		"at once":     {5 * time.Millisecond, 450 * time.Millisecond, 600 * time.Millisecond},
		"soon":        {250 * time.Millisecond, 200 * time.Millisecond, 350 * time.Millisecond},
		"much later":  {time.Second, 0, 100 * time.Millisecond},
		"long before": {time.Minute, 0, 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _ := twoWithChecks(t, raftstore.OnFailDrain)
				defer s.stop()
				s.setFlows(1)
				if err := s.executeOnce(t.Context(), raftstore.Command{Wish: &raftstore.Wish{Node: "a", Out: true}}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(tc.before)
				began := time.Now()
				leaving, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				s.Leave(leaving)
				if took := time.Since(began); took < tc.least || took > tc.most {
					t.Errorf("stopped after %v, want %v to %v", took, tc.least, tc.most)
				}
				if s.release.pending() || s.own().Len() > 0 {
					t.Error("not everything is released")
				}
			})
		})
	}
}

// What a node is told to give away while it stops it releases, too: its next
// process would be the first to say so.
func TestLeavingNodeReleasesWhatItCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := twoWithChecks(t, raftstore.OnFailDrain)
		defer s.stop()
		s.store.mu.Lock()
		s.store.onPropose = func(c raftstore.Command) {
			if c.Rest != nil {
				s.store.history.pin("0-3", "b") // committed just before
			}
		}
		s.store.mu.Unlock()
		leaving, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		s.Leave(leaving)
		if slot := s.slot(0); s.release.pending() || s.release.told() < slot.Since || slot.Owner != "b" {
			t.Errorf("released up to %d, bucket 0 is %+v", s.release.told(), slot)
		}
	})
}

// No stop takes longer than it may.
func TestLeavingNodeWaitsNoLongerThanItMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := twoWithChecks(t, raftstore.OnFailDrain)
		defer s.stop()
		if err := s.executeOnce(t.Context(), raftstore.Command{Wish: &raftstore.Wish{Node: "a", Out: true}}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		leaving, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		s.Leave(leaving)
		if took := time.Since(began); took > 200*time.Millisecond {
			t.Errorf("stopped after %v", took)
		}
	})
}
