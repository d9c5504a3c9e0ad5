package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"earshot/raftstore"
)

// leases enters the length of a node's lease in the state.
func (o *office) leases(node string, lease time.Duration) {
	n := o.history.state.Nodes[node]
	o.history.must(raftstore.Command{Profile: &raftstore.Profile{Node: node, ServerID: n.ServerID, Weight: n.Weight, Lease: lease}})
}

// long is what a node says whose own configuration has ten times the lease.
func (o *office) long(node string) renewal {
	r := o.renewal(node)
	r.Lease = 10 * o.ledger.timing.Lease
	return r
}

// A lease that is longer than the leader's own is granted when the next leader
// will know of it, and waited for by its own length.
func TestALongerLeaseIsWaitedFor(t *testing.T) {
	o := newOffice(t)
	if err := o.ask(o.long("c")); !errors.Is(err, ErrUntold) {
		t.Fatalf("granted a lease that the next leader does not know of: %v", err)
	}
	o.leases("c", 10*o.ledger.timing.Lease)
	if err := o.ask(o.long("c")); err != nil {
		t.Fatal(err)
	}
	o.pass(120)
	o.wantDead("the others are silent", "a", "b")
	o.pass(880)
	o.wantDead("its lease may run for ten times as long")
	o.pass(30)
	o.wantDead("it is over", "c")
}

// A leader with a short lease of its own comes after one that granted long ones.
func TestANewLeaderWaitsForLongerLeases(t *testing.T) {
	o := newOffice(t)
	o.leases("c", 10*o.ledger.timing.Lease)
	o.elect()
	o.pass(120)
	o.wantDead("those of its own length", "a", "b")
	o.pass(880)
	o.wantDead("c may have been granted one just before")
	o.pass(30)
	o.wantDead("it is over", "c")
}

// A node that is to have a shorter lease says so when its kernel has no longer
// one left.
func TestALeaseIsShortenedWhenTheLongOneIsOver(t *testing.T) {
	o := newOffice(t)
	lease := o.ledger.timing.Lease
	o.leases("c", 10*lease)
	r := o.renewal("c")
	r.Lease, r.Resting, r.Profile = lease, true, &profile{}
	if err := o.ask(r); err != nil {
		t.Fatal(err)
	}
	if p := o.ledger.profiles(o.now, o.history.state); len(p) > 0 {
		t.Fatalf("entered while a longer lease may run: %+v", p)
	}
	r.Resting = false
	if err := o.ask(r); err != nil {
		t.Fatal(err)
	}
	p := o.ledger.profiles(o.now, o.history.state)
	if len(p) != 1 || p[0].Node != "c" || p[0].Lease != lease {
		t.Fatalf("to be entered: %+v", p)
	}
	o.history.must(raftstore.Command{Profile: &p[0]})
	if p := o.ledger.profiles(o.now, o.history.state); len(p) > 0 {
		t.Fatalf("entered again and again: %+v", p)
	}
}

// A node whose name another server is to have may hold no lease, and is granted
// none from then on.
func TestASupersededNodeIsGrantedNothingP4(t *testing.T) {
	o := newOffice(t)
	supersede := func(term uint64) error {
		return o.ledger.supersede(o.now, term, o.history.state.Nodes["c"])
	}
	o.pass(120)
	o.renewAll("a", "b", "c")
	if err := supersede(testTerm); !errors.Is(err, errMayLive) {
		t.Fatalf("superseded with a lease: %v", err)
	}
	if err := supersede(testTerm + 1); !errors.Is(err, ErrNotReady) {
		t.Fatalf("superseded in a term in which nothing is known: %v", err)
	}
	o.pass(120)
	if err := supersede(testTerm); err != nil {
		t.Fatal(err)
	}
	if err := o.ask(o.renewal("c")); !errors.Is(err, ErrJudged) {
		t.Fatalf("granted while another takes its place: %v", err)
	}
	if err := supersede(testTerm); err != nil {
		t.Fatalf("the other asks once more: %v", err)
	}
	o.ledger.settle(testTerm, "c")
	o.history.die("c")
	o.renewAll("c")
	if err := supersede(testTerm); !errors.Is(err, errMayLive) {
		t.Fatalf("a dead one that is about to return: %v", err)
	}
	o.pass(120)
	if err := supersede(testTerm); err != nil {
		t.Fatalf("a dead one: %v", err)
	}
	if err := o.ask(o.renewal("c")); !errors.Is(err, ErrJudged) {
		t.Fatalf("a dead one comes back while another takes its place: %v", err)
	}
	o.ledger.settle(testTerm+1, "c")
	if err := o.ask(o.renewal("c")); !errors.Is(err, ErrJudged) {
		t.Fatalf("settled in another term: %v", err)
	}
	o.ledger.settle(testTerm, "c")
	o.renewAll("c")
	o.pass(120)
	o.wantDead("silent", "a", "b")
	o.ledger.settle(testTerm, "b")
	if err := o.ask(o.renewal("b")); !errors.Is(err, ErrJudged) {
		t.Fatalf("what was settled was no death: %v", err)
	}
}

// What an earlier process asked for late says nothing of the one that runs.
func TestALateRenewalOfAnEarlierProcessIsRefused(t *testing.T) {
	o := newOffice(t)
	r := o.renewal("c")
	r.Lease, r.Process = o.ledger.timing.Lease, 2
	if err := o.ask(r); err != nil {
		t.Fatal(err)
	}
	r.Process = 1
	if err := o.ask(r); !errors.Is(err, ErrOvertaken) {
		t.Fatalf("granted to a process that is no more: %v", err)
	}
	r.Lease = 0
	if err := o.ask(r); err != nil {
		t.Fatalf("of an older version, which goes by the clock: %v", err)
	}
}

// A judgement whose command may still come through stands for as long.
func TestAJudgementInDoubtEndsWithItsEpochP4(t *testing.T) {
	o := newOffice(t)
	o.history.die("c")
	o.pass(120)
	o.renewAll("a", "b")
	if _, err := o.ledger.condemn(o.now, testTerm, o.history.state, o.history.state.Nodes["c"]); err != nil {
		t.Fatal(err)
	}
	o.ledger.waver(testTerm+1, "c", 1) // of another term
	o.ledger.waver(testTerm, "c", o.history.state.Epoch)
	o.wantDead("c is dead already")
	if err := o.ask(o.renewal("c")); !errors.Is(err, ErrJudged) {
		t.Fatalf("granted while it may be forgotten yet: %v", err)
	}
	o.leases("b", time.Second) // another epoch
	o.wantDead("c is dead already")
	if err := o.ask(o.renewal("c")); err != nil {
		t.Fatalf("refused though it can no longer be forgotten: %v", err)
	}
}

// A dead node of an older version keeps leases out of the state for ever.
func TestADeadNodeThatKeepsLeasesFromBeingKnownIsNamed(t *testing.T) {
	o := newOffice(t)
	problems := func() []string { return leaseProblems(o.history.state, "a", o.ledger.timing.Lease) }
	if got := problems(); len(got) > 0 {
		t.Fatalf("older ones that live are being upgraded: %q", got)
	}
	o.history.die("c")
	if got := problems(); len(got) != 1 || !strings.Contains(got[0], "`earshot forget c`") {
		t.Fatalf("with a dead one: %q", got)
	}
	o.leases("a", o.ledger.timing.Lease)
	if got := problems(); len(got) > 0 {
		t.Fatalf("the state has it: %q", got)
	}
}

// oblivious is a store whose forgetting has no effect, and this outcome.
type oblivious struct {
	*modelStore
	outcome error
}

func (o *oblivious) Propose(ctx context.Context, c raftstore.Command) (uint64, error) {
	if c.Forget != nil && o.outcome != nil {
		return 0, o.outcome
	}
	return o.modelStore.Propose(ctx, c)
}

func TestForgettingInDoubtKeepsTheNodeJudgedAndCanBeRepeated(t *testing.T) {
	o := newOffice(t)
	o.history.die("c")
	o.pass(120)
	store := &oblivious{modelStore: &modelStore{history: o.history, lead: raftstore.Leadership{Term: testTerm, Self: true}}}
	l := &leader{store: store, timing: o.ledger.timing, ledger: o.ledger, log: slog.New(slog.DiscardHandler)}
	synctest.Test(t, func(t *testing.T) {
		o.now = time.Now()
		o.elect()
		time.Sleep(2 * time.Second)
		o.now = time.Now()
		// A second one that is certainly not carried out says nothing of the first.
		for _, outcome := range []error{raftstore.ErrUnknown, raftstore.ErrNotLeader, raftstore.ErrUnknown} {
			store.outcome = outcome
			if err := l.forgetOnce(t.Context(), "c"); !errors.Is(err, outcome) {
				t.Fatal(err)
			}
			if got := o.ledger.tenants["c"]; !got.judged || got.doubt != o.history.state.Epoch {
				t.Fatalf("%+v", got)
			}
		}
		store.outcome = nil
		if err := l.forgetOnce(t.Context(), "c"); err != nil || len(o.history.state.Nodes) != 2 {
			t.Fatalf("repeated: %v, nodes %v", err, o.history.state.NodeNames())
		}
	})
}

// A rest that is over does not end the one that the node asked for since.
func TestTheEndOfARestEndsNoOther(t *testing.T) {
	o := newOffice(t)
	rest := func(r raftstore.Rest) time.Duration {
		o.history.must(raftstore.Command{Rest: &r})
		return o.history.state.Nodes["c"].Rest
	}
	rest(raftstore.Rest{Node: "c", For: time.Second, By: 1})
	if left := rest(raftstore.Rest{Node: "c", For: 10 * time.Second, By: 2}); left != 10*time.Second {
		t.Fatal(left)
	}
	if left := rest(raftstore.Rest{Node: "c", By: 1}); left != 10*time.Second {
		t.Fatalf("the end of the first rest leaves %v of the second", left)
	}
	if left := rest(raftstore.Rest{Node: "c", By: 2}); left != 0 {
		t.Fatalf("%v are left", left)
	}
}

// The kernel holds the map of a cluster that is no more, as when all data
// directories were emptied within a restart. The new one's leases are not for it.
func TestNoLeaseForTheMapOfAnotherCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		h.join("a", 1)
		h.define("web", 4)
		h.replan()
		kernel := &modelKernel{}
		kernel.held, kernel.ok, kernel.until = h.state.Index+5000, true, time.Now().Add(time.Second)
		s := runWith(t, h, kernel, nil)
		defer s.stop()
		time.Sleep(5 * time.Second)
		s.kernel.mu.Lock()
		defer s.kernel.mu.Unlock()
		if want := s.store.State().Index; s.kernel.held != want || !s.kernel.until.After(time.Now()) {
			t.Fatalf("the kernel holds map %d until %v, want %d and a lease", s.kernel.held, s.kernel.until, want)
		}
	})
}
