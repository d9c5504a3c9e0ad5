package coordinator

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"earshot/coordinator/health"
	"earshot/hashmode"
	"earshot/raftstore"
)

// physician gives verdicts as the test says.
type physician struct {
	mu       sync.Mutex
	verdict  health.Verdict
	changed  func()
	finished bool
}

func (d *physician) Run(ctx context.Context, changed func()) error {
	d.mu.Lock()
	d.changed = changed
	d.mu.Unlock()
	<-ctx.Done()
	d.finished = true
	return nil
}

func (d *physician) Verdicts() map[string]health.Verdict {
	d.mu.Lock()
	defer d.mu.Unlock()
	return map[string]health.Verdict{"web": d.verdict}
}

func (d *physician) say(v health.Verdict) {
	d.mu.Lock()
	before := d.verdict
	d.verdict = v
	changed := d.changed
	d.mu.Unlock()
	if before.State != v.State {
		changed()
	}
}

var (
	well = health.Verdict{State: health.Well}
	ill  = health.Verdict{State: health.Ill, Reason: "connection refused"}
)

// twoWithChecks is node a beside b, which follows silently, with half of the
// four buckets each, and a's physician.
func twoWithChecks(t *testing.T, onFail string) (*single, *physician) {
	h := newHistory(t)
	h.join("a", 1)
	h.join("b", 1)
	d := testDefinition("web", 4)
	d.OnFail = onFail
	h.must(raftstore.Command{Define: &raftstore.Define{Seed: 7, Definition: d}})
	h.replan()
	doc := &physician{verdict: well}
	s := runWith(t, h, &modelKernel{}, doc)
	s.spareTheSilent()
	s.news.learn(released("b", 1000))
	time.Sleep(time.Second)
	if n := s.own().Len(); n != 2 {
		t.Fatalf("%d buckets to begin with", n)
	}
	return s, doc
}

func TestIllNodeGivesUpItsShareAndGetsItBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, doc := twoWithChecks(t, raftstore.OnFailDrain)
		defer s.stop()
		s.setFlows(1)
		doc.say(ill)
		time.Sleep(30 * time.Millisecond) // no renewal, and no step of the leader, is waited for
		if n := s.own().Len(); n != 0 {
			t.Errorf("%d buckets while ill", n)
		}
		if got := s.store.State().Nodes["a"].Unfit["web"]; got != "connection refused" {
			t.Errorf("the cluster knows as the reason %q", got)
		}
		// The flows of before go on.
		time.Sleep(5 * time.Second)
		if from := s.slot(0).From; len(from) != 1 {
			t.Errorf("the drain ended with a flow left: %+v", s.slot(0))
		}
		if len(s.kernel.cut) > 0 {
			t.Errorf("connections reset: %q", s.kernel.cut)
		}
		doc.say(well)
		time.Sleep(400 * time.Millisecond)
		if n := s.own().Len(); n != 2 {
			t.Errorf("%d buckets once well again", n)
		}
	})
}

// Connections are reset at once. The drain ends when nobody can ask any more
// whose a SYN is that was held meanwhile.
func TestCutResetsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, doc := twoWithChecks(t, raftstore.OnFailCut)
		defer s.stop()
		s.setFlows(1)
		doc.say(ill)
		drains := func(former ...string) {
			t.Helper()
			for _, b := range []hashmode.Bucket{0, 1} {
				if slot := s.slot(b); slot.Owner != "b" || !slices.Equal(slot.From, former) {
					t.Errorf("bucket %d: %+v", b, slot)
				}
			}
			s.kernel.mu.Lock()
			defer s.kernel.mu.Unlock()
			if want := []string{"web 0-1"}; !slices.Equal(s.kernel.cut, want) {
				t.Errorf("connections reset: %q, not those of %q", s.kernel.cut, want)
			}
		}
		time.Sleep(50 * time.Millisecond) // two barriers: of the release, and of the end
		drains("a")
		time.Sleep(300 * time.Millisecond) // a lease: b asks for so long
		drains("a")
		time.Sleep(300 * time.Millisecond)
		drains()
	})
}

// A node alone keeps its buckets, ill or not: nobody else could answer.
func TestTheLastNodeKeepsItsBuckets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		h.join("a", 1)
		h.define("web", 4)
		doc := &physician{verdict: well}
		s := runWith(t, h, &modelKernel{}, doc)
		defer s.stop()
		time.Sleep(time.Second)
		doc.say(ill)
		time.Sleep(time.Second)
		if n := s.own().Len(); n != 4 {
			t.Errorf("%d buckets", n)
		}
	})
}

// A server that is not judged yet: a node whose kernel answers goes on, any
// other waits for the first success.
func TestBeforeTheFirstVerdict(t *testing.T) {
	for _, answering := range []bool{true, false} {
		t.Run(fmt.Sprint("answering ", answering), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHistory(t)
				h.join("a", 1)
				h.join("b", 1)
				h.define("web", 4)
				h.replan()
				kernel := &modelKernel{}
				if answering {
					kernel.held, kernel.ok, kernel.until = h.state.Index, true, time.Now().Add(10*time.Second)
				}
				doc := &physician{}
				s := runWith(t, h, kernel, doc)
				defer s.stop()
				s.spareTheSilent()
				s.news.learn(released("b", 1000))
				time.Sleep(time.Second)
				why, unfit := s.store.State().Nodes["a"].Unfit["web"]
				if unfit == answering || unfit && why != unchecked {
					t.Errorf("unfit %v: %q", unfit, why)
				}
				doc.say(well)
				time.Sleep(time.Second)
				if n := s.own().Len(); n != 2 {
					t.Errorf("%d buckets after the first success", n)
				}
			})
		})
	}
}

// An illness that the cluster knows of outlasts a restart of the agent.
func TestARestartForgetsNoIllness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		h.join("a", 1)
		h.join("b", 1)
		h.define("web", 4)
		h.must(raftstore.Command{Fitness: &raftstore.Fitness{Node: "a", Unfit: map[string]string{"web": "refused"}}})
		h.replan()
		s := runWith(t, h, &modelKernel{held: h.state.Index, ok: true, until: time.Now().Add(10 * time.Second)}, &physician{})
		defer s.stop()
		s.spareTheSilent()
		time.Sleep(time.Second)
		if why := s.store.State().Nodes["a"].Unfit["web"]; why != "refused" {
			t.Errorf("unfit because %q", why)
		}
	})
}

func TestStatusSaysWhyANodeDoesNotServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, doc := twoWithChecks(t, raftstore.OnFailDrain)
		defer s.stop()
		doc.say(ill)
		time.Sleep(100 * time.Millisecond)
		got := s.status(t.Context())
		if why := got.Services[0].Nodes[0].Unfit; why != "connection refused" {
			t.Errorf("%+v", got.Services[0].Nodes[0])
		}
		if want := "a: cannot serve web: connection refused"; len(got.Warnings) == 0 || got.Warnings[0] != want {
			t.Errorf("warnings %q, not %q", got.Warnings, want)
		}
	})
}

// A server that changes its state a hundred times a second costs the leader no
// more than a commit in a lease.
func TestAFlappingServerIsHeardOnceInALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, doc := twoWithChecks(t, raftstore.OnFailDrain)
		defer s.stop()
		entries := 0
		s.store.onPropose = func(c raftstore.Command) {
			if c.Fitness != nil {
				entries++
			}
		}
		const leases = 20
		for i := range leases * 30 { // every 10 ms, for 20 leases of 300 ms
			doc.say([]health.Verdict{ill, well}[i%2])
			time.Sleep(10 * time.Millisecond)
		}
		if entries == 0 || entries > leases+1 {
			t.Errorf("%d entries in %d leases", entries, leases)
		}
	})
}

// Nor does the node ask for more renewals than one more in each interval.
func TestAFlappingServerDoesNotFloodTheLeader(t *testing.T) {
	asked := 0
	f := &fitness{pace: 50 * time.Millisecond, onChange: func() { asked++ }}
	now := time.Now()
	for i := range 100 {
		f.changed(now.Add(time.Duration(i) * 10 * time.Millisecond))
	}
	if asked != 20 {
		t.Errorf("asked %d times in a second, with a pace of %v", asked, f.pace)
	}
}

// Of many nodes that fall ill at once each has its turn, one at a time; none
// has two before all have had one.
func TestEveryNodeHasItsTurn(t *testing.T) {
	o := newOffice(t)
	sick := func(reason string) {
		for _, n := range []string{"a", "b", "c"} {
			r := o.renewal(n)
			r.Unfit = map[string]string{"web": reason}
			if err := o.ask(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	sick("first")
	seen := map[string]int{}
	for range 5 {
		if f, found := o.ledger.fitness(o.now, o.history.state); found {
			seen[f.Node]++ // whether it is committed is another matter
		}
	}
	if len(seen) != 3 || seen["a"] != 1 || seen["b"] != 1 || seen["c"] != 1 {
		t.Errorf("turns in one moment: %v", seen)
	}
	o.pass(50)
	sick("second")
	if f, found := o.ledger.fitness(o.now, o.history.state); found {
		t.Errorf("%s again within the lease", f.Node)
	}
	o.pass(51)
	sick("third")
	if f, found := o.ledger.fitness(o.now, o.history.state); !found || f.Unfit["web"] != "third" {
		t.Errorf("after a lease: %+v, %v", f, found)
	}
	clear(seen)
	for i := range 6 { // a leader that has time for one only
		o.pass(101)
		sick(fmt.Sprint(i))
		f, _ := o.ledger.fitness(o.now, o.history.state)
		seen[f.Node]++
	}
	if seen["a"] != 2 || seen["b"] != 2 || seen["c"] != 2 {
		t.Errorf("six turns, one in a lease: %v", seen)
	}
}

// A renewal that was overtaken by a newer one says nothing of the node's
// fitness any more; one of a later process does.
func TestAnOvertakenRenewalIsOld(t *testing.T) {
	o := newOffice(t)
	say := func(process int64, number uint64, why string) {
		t.Helper()
		r := o.renewal("a")
		r.Process, r.Number = process, number
		if why != "" {
			r.Unfit = map[string]string{"web": why}
		}
		if err := o.ask(r); err != nil {
			t.Fatal(err)
		}
	}
	say(1, 7, "ill")
	say(1, 6, "")
	if got := o.ledger.tenants["a"].unfit["web"]; got != "ill" {
		t.Errorf("after an older renewal: %q", got)
	}
	say(2, 1, "")
	if got := o.ledger.tenants["a"].unfit["web"]; got != "" {
		t.Errorf("after one of a later process: %q", got)
	}
}

// While nobody serves, those who could answer all the same do.
func TestFallbackWhileNobodyServes(t *testing.T) {
	h := newHistory(t)
	for _, n := range []string{"a", "b", "c"} {
		h.join(n, 1)
	}
	h.define("web", 9)
	h.replan()
	fall := func(node string, passes bool) {
		h.must(raftstore.Command{Fitness: &raftstore.Fitness{
			Node: node, Unfit: map[string]string{"web": "refused"}, Spare: map[string]bool{"web": passes},
		}})
		h.replan()
	}
	fall("a", false)
	fall("b", false)
	if got := h.counts("web"); got["c"] != 9 {
		t.Errorf("c alone serves: %v", got)
	}
	fall("c", false)
	if got := h.counts("web"); got["c"] != 9 {
		t.Errorf("nobody serves, and something moved: %v", got)
	}
	h.die("c")
	if got := h.counts("web"); got["a"]+got["b"] != 9 {
		t.Errorf("its owner is dead: %v", got)
	}
	fall("b", true)
	if got := h.counts("web"); got["b"] != 9 {
		t.Errorf("b alone passes the lighter check: %v", got)
	}
	h.must(raftstore.Command{Fitness: &raftstore.Fitness{Node: "a"}})
	h.replan()
	if got := h.counts("web"); got["a"] != 9 {
		t.Errorf("a serves again: %v", got)
	}
}

// A node that is deaf answers for nothing, whoever else does not.
func TestADeafNodeIsNoFallback(t *testing.T) {
	f := &fitness{node: "a", health: &physician{verdict: ill}, store: &modelStore{history: newHistory(t)}}
	if unfit, spare := f.unfit(); unfit["web"] == "" || len(spare) != 1 || spare["web"] {
		t.Errorf("ill: %v, %v", unfit, spare)
	}
	f.fallback = &physician{verdict: well}
	if _, spare := f.unfit(); !spare["web"] {
		t.Errorf("passes the lighter check: %v", spare)
	}
	f.deaf = map[string]string{"web": "no carrier"}
	if unfit, spare := f.unfit(); unfit["web"] != "no carrier" || len(spare) != 0 {
		t.Errorf("deaf: %v, %v", unfit, spare)
	}
}
