package coordinator

import (
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
	ended := e.of(st, "a")
	if got := ended["web"].String(); got != "0-1" {
		t.Fatalf("to be closed: %q", got)
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
	if got := e.of(st, "a")["web"].String(); got != "0" {
		t.Errorf("after another move: %q", got)
	}
	rs := nft.Ruleset{Services: []nft.Service{{Name: "web", Drain: hashmode.Range(0, 1)}}}
	if got := without(rs, ended).Services[0].Drain; !got.Empty() || rs.Services[0].Drain.Len() != 2 {
		t.Errorf("without the ended: %s, of %s", got, rs.Services[0].Drain)
	}
}
