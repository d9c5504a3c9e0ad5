package coordinator

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"earshot/hashmode"
	"earshot/raftstore"
)

// Buckets that are released one after another have their connections reset
// each as soon as they are, once; the end of each drain is told when nobody asks
// any more whose a SYN is that came before its release.
func TestEachReleaseIsResetAtOnceAndToldLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		h.join("a", 1)
		h.join("b", 1)
		h.define("web", 4)
		h.pin("0-3", "a")
		h.pin("0-3", "b")
		h.must(raftstore.Command{Redefine: cutting(h)})
		h.must(raftstore.Command{Fitness: &raftstore.Fitness{Node: "a", Unfit: map[string]string{"web": "ill"}}})
		begin := time.Now()
		var told []string
		kernel := &modelKernel{}
		d := &drainer{
			node: "a", wiring: &wiring{}, store: &modelStore{history: h}, kernel: kernel, log: slog.New(slog.DiscardHandler), endings: newEndings(),
			patience: func(*raftstore.State) time.Duration { return time.Hour }, releasedAt: time.Now,
			propose: func(_ context.Context, c raftstore.Command) error {
				told = append(told, c.EndDrain.Buckets)
				return nil
			},
		}
		for _, step := range []struct {
			after    time.Duration
			released hashmode.Set
			cut      []string
			told     []string
			next     time.Duration
		}{
			{0, hashmode.Range(0, 1), []string{"web 0-1"}, nil, time.Hour},
			{30 * time.Minute, hashmode.Set{}, []string{"web 0-1"}, nil, time.Hour},
			{50 * time.Minute, hashmode.Range(2, 3), []string{"web 0-1", "web 2-3"}, nil, time.Hour},
			{time.Hour, hashmode.Set{}, []string{"web 0-1", "web 2-3"}, []string{"0-1"}, 110 * time.Minute},
			{110 * time.Minute, hashmode.Set{}, []string{"web 0-1", "web 2-3"}, []string{"0-1", "2-3"}, 0},
		} {
			time.Sleep(time.Until(begin.Add(step.after)))
			for b := range step.released.All() {
				d.endings.add(h.state.Services["web"], b, 1000, d.due())
			}
			d.endings.raise(map[string]hashmode.Set{"web": step.released}, endDecided, endClosed)
			next := d.finish(t.Context())
			if !slices.Equal(kernel.cut, step.cut) || !slices.Equal(told, step.told) {
				t.Errorf("after %v: reset %q, told %q; want %q, %q", step.after, kernel.cut, told, step.cut, step.told)
			}
			if late := next.Sub(begin) - step.next; step.next > 0 && (late < 0 || late > time.Second) || step.next == 0 && !next.IsZero() {
				t.Errorf("after %v: the next is due after %v, want %v", step.after, next.Sub(begin), step.next)
			}
		}
	})
}

// cutting has the flows of web cut where its server is ill.
func cutting(h *history) *raftstore.Redefine {
	was := h.state.Services["web"].Definition
	now := was
	now.OnFail = raftstore.OnFailCut
	return &raftstore.Redefine{Changes: []raftstore.Redefinition{{Service: "web", Was: &was, Definition: &now}}}
}

// Where flows are given up the drain could end as soon as the buckets are
// released. The new owner still asks about each SYN then, for a lease: with
// nobody to ask it would drop what it holds, and the client would wait a second.
func TestACutDrainOutlastsTheQuestions(t *testing.T) {
	for name, lost := range map[string]func(t *testing.T, s *single){
		"out --now": func(t *testing.T, s *single) {
			if err := s.executeOnce(t.Context(), raftstore.Command{Wish: &raftstore.Wish{Node: "a", Out: true, Cut: true}}); err != nil {
				t.Fatal(err)
			}
		},
		"deaf": func(_ *testing.T, s *single) {
			s.kernel.mu.Lock()
			s.kernel.deaf = true
			s.kernel.mu.Unlock()
			s.reconciler.drift()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _ := twoWithChecks(t, raftstore.OnFailDrain)
				defer s.stop()
				s.setFlows(1)
				mine := map[hashmode.Bucket]bool{}
				for b, slot := range s.store.State().Services["web"].Map {
					mine[hashmode.Bucket(b)] = slot.Owner == "a"
				}
				lost(t, s)
				drains := func(want bool) {
					t.Helper()
					for b := range mine {
						if slot := s.slot(b); mine[b] && (slot.Owner != "b" || slices.Contains(slot.From, "a") != want) {
							t.Errorf("bucket %d: %+v; drains: want %v", b, slot, want)
						}
					}
				}
				time.Sleep(60 * time.Millisecond) // released, and closed, behind a barrier each
				drains(true)
				time.Sleep(300 * time.Millisecond) // a lease: b asks for so long
				drains(true)
				time.Sleep(300 * time.Millisecond)
				drains(false)
			})
		})
	}
}

// While the lease is changed on one node after the other, a new owner may have
// one that is longer, and asks for so long.
func TestQuestionsOfANodeWithALongerLeaseAreWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := twoWithChecks(t, raftstore.OnFailDrain)
		defer s.stop()
		s.setFlows(1)
		longer := raftstore.Command{Profile: &raftstore.Profile{Node: "b", ServerID: "id-b", Weight: 1, Lease: time.Second}}
		if err := s.executeOnce(t.Context(), longer); err != nil {
			t.Fatal(err)
		}
		out := raftstore.Command{Wish: &raftstore.Wish{Node: "a", Out: true, Cut: true}}
		if err := s.executeOnce(t.Context(), out); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1100 * time.Millisecond)
		if slot := s.slot(0); slot.Owner != "b" || !slices.Contains(slot.From, "a") {
			t.Errorf("the drain has ended while b still asks: %+v", slot)
		}
		leaving, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		s.Leave(leaving)
		if took := time.Since(began); took < 300*time.Millisecond || leaving.Err() != nil {
			t.Errorf("stopped %v later (%v), while b still asks", took, leaving.Err())
		}
		time.Sleep(100 * time.Millisecond)
		if slot := s.slot(0); slices.Contains(slot.From, "a") {
			t.Errorf("the drain is not over: %+v", slot)
		}
	})
}

// What was released long ago is settled: its drain is cut at once.
func TestALateCutEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := twoWithChecks(t, raftstore.OnFailDrain)
		defer s.stop()
		s.setFlows(1)
		for _, cut := range []bool{false, true} {
			if err := s.executeOnce(t.Context(), raftstore.Command{Wish: &raftstore.Wish{Node: "a", Out: true, Cut: cut}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
			if !cut {
				time.Sleep(time.Second)
			}
		}
		if slot := s.slot(0); len(slot.From) > 0 {
			t.Errorf("bucket 0: %+v", slot)
		}
	})
}
