package coordinator

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"earshot/hashmode"
	"earshot/nft"
	"earshot/raftstore"
)

// The kernel of a node whose drain is over closes the bucket before the
// cluster hears of the end, and a barrier lies between the two.
func TestADrainIsClosedBeforeItsEndIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := twoWithChecks(t, raftstore.OnFailDrain)
		defer s.stop()
		s.setFlows(1)
		if err := s.executeOnce(t.Context(), raftstore.Command{Wish: &raftstore.Wish{Node: "a", Out: true}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := s.kernel.service("web").Drain; got.Empty() {
			t.Fatal("nothing drains")
		}
		if err := s.executeOnce(t.Context(), raftstore.Command{Wish: &raftstore.Wish{Node: "a", Out: true, Cut: true}}); err != nil {
			t.Fatal(err)
		}
		closed := time.Time{}
		for range 1000 {
			time.Sleep(time.Millisecond)
			if closed.IsZero() && s.kernel.service("web").Drain.Empty() {
				closed = time.Now()
			}
			if len(s.slot(0).From) == 0 {
				break
			}
		}
		if len(s.slot(0).From) > 0 {
			t.Fatalf("no end: %+v", s.slot(0))
		}
		if waited := time.Since(closed); closed.IsZero() || waited < barrierTime-time.Millisecond { // it is looked every millisecond
			t.Errorf("the end is told %v after the kernel closed the bucket, and a barrier takes %v", waited, barrierTime)
		}
	})
}

// Each end is told with what was known at its own look: one that was looked at
// before another bucket moved must not hide the other's end.
func TestEndsAreToldEachByItsOwnLook(t *testing.T) {
	e := newEndings()
	v := raftstore.Service{Definition: raftstore.Definition{Name: "web"}, Map: raftstore.Map{
		{Owner: "b", Since: 10, From: []string{"a"}},
		{Owner: "b", Since: 20, From: []string{"a"}},
		{Owner: "a", Since: 20},
	}}
	e.add(v, 0, 12, time.Time{})
	e.add(v, 1, 25, time.Time{})
	st := &raftstore.State{Services: map[string]raftstore.Service{"web": v}}
	ended, lost := e.of(st, "a")
	if got := ended["web"].String(); got != "0-1" || len(lost) > 0 {
		t.Fatalf("to be closed: %q, lost: %v", got, lost)
	}
	if len(e.at(endClosed)) > 0 || !e.raise(ended, endDecided, endClosed) || e.raise(ended, endDecided, endClosed) {
		t.Error("closed once, and not before the kernel says so")
	}
	told := e.bySeen("web", e.at(endClosed)["web"])
	if len(told) != 2 || !told[12].Has(0) || !told[25].Has(1) {
		t.Errorf("%v", told)
	}
	// A bucket that has moved again drains anew.
	v.Map[1].Since = 30
	if left, lost := e.of(st, "a"); left["web"].String() != "0" || lost["web"].String() != "1" {
		t.Errorf("after another move: %q, lost: %q", left["web"], lost["web"])
	}
	rs := nft.Ruleset{Services: []nft.Service{{Name: "web", Drain: hashmode.Range(0, 1)}}}
	if got := without(rs, ended).Services[0].Drain; !got.Empty() || rs.Services[0].Drain.Len() != 2 {
		t.Errorf("without the ended: %s, of %s", got, rs.Services[0].Drain)
	}
}

// TestWhatComesBackAsItsDrainEndsIsDisowned: out --now, and in at once. The node
// that gave flows up hears of the end of its drain and of the bucket's return
// together, and others may have had the flows in between.
func TestWhatComesBackAsItsDrainEndsIsDisowned(t *testing.T) {
	slot := raftstore.Slot{Owner: "b", Since: 10, From: []string{"a"}}
	for name, tc := range map[string]struct {
		stage  endStage
		then   []raftstore.Slot
		lost   string
		remaps uint64
	}{
		"it is back":                {endTold, []raftstore.Slot{{Owner: "a", Since: 12, From: []string{"b"}}}, "0", 0},
		"back, perhaps not told":    {endClosed, []raftstore.Slot{{Owner: "a", Since: 12, From: []string{"b"}}}, "0", 0},
		"back before it was closed": {endDecided, []raftstore.Slot{{Owner: "a", Since: 12, From: []string{"b"}}}, "", 0},
		"back, and gone on":         {endTold, []raftstore.Slot{{Owner: "c", Since: 13, From: []string{"a", "b"}}}, "0", 0},
		"over":                      {endTold, []raftstore.Slot{{Owner: "b", Since: 10}}, "", 0},
		"the service is gone":       {endTold, nil, "", 0},
		"of other packets":          {endTold, []raftstore.Slot{{Owner: "a", Since: 12, From: []string{"b"}}}, "", 12},
	} {
		e := newEndings()
		v := raftstore.Service{Definition: raftstore.Definition{Name: "web"}, Map: raftstore.Map{slot}}
		st := &raftstore.State{Services: map[string]raftstore.Service{"web": v}}
		e.add(v, 0, 11, time.Time{})
		set := map[string]hashmode.Set{"web": hashmode.NewSet(0)}
		for stage := endDecided; stage < tc.stage; stage++ {
			e.raise(set, stage, stage+1)
		}
		v.Map, v.Remapped = tc.then, tc.remaps
		st.Services["web"] = v
		left, lost := e.of(st, "a")
		if got := lost["web"].String(); got != tc.lost || !left["web"].Empty() || len(e.all) > 0 {
			t.Errorf("%s: lost %q, want %q; still to end: %q", name, got, tc.lost, left["web"])
		}
	}
}

// The kernel forgets those flows before it takes the bucket.
func TestWhatComesBackIsForgottenFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &rememberingKernel{takes: 10 * time.Millisecond}
		h := newHistory(t)
		h.join("a", 1)
		h.join("b", 1)
		h.define("web", 1)
		h.pin("0", "a")
		h.pin("0", "b")
		d := disowning(t, k)
		r := &reconciler{
			node: "a", wiring: &wiring{}, store: &modelStore{history: h}, kernel: k, news: newNews(), log: slog.New(slog.DiscardHandler),
			leased: func() bool { return true }, onHeld: func(uint64) {}, onAppeared: func() {}, onEnded: func() {},
			release: newRelease(k, func(uint64) {}, slog.New(slog.DiscardHandler)), disown: d, endings: newEndings(), patient: time.Second,
		}
		r.parting.held = func() map[string]map[hashmode.Bucket]nft.HeldID { return nil }
		r.parting.queued = k.Queued
		reconcile := func() {
			t.Helper()
			if err := r.reconcile(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		reconcile()
		k.forgot = nil
		r.endings.add(h.state.Services["web"], 0, h.state.Index, time.Time{})
		reconcile()
		if len(k.forgot) > 0 {
			t.Fatalf("disowned %v before the end of the drain", k.forgot)
		}
		h.must(raftstore.Command{EndDrain: &raftstore.EndDrain{Node: "a", Service: "web", Buckets: "0", Seen: h.state.Index}})
		h.pin("0", "a")
		if err := r.reconcile(); err != nil {
			t.Fatal(err)
		}
		if len(k.forgot) != 1 || !k.forgot[0].Has(0) || k.service("web").Take.String() != "0" {
			t.Errorf("disowned %v when the kernel has %+v", k.forgot, k.service("web"))
		}
	})
}
