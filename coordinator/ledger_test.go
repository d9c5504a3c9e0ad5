package coordinator

import (
	"errors"
	"slices"
	"testing"
	"time"

	"earshot/raftstore"
)

// office is a leader's ledger in a cluster of a, b and c, with a clock that
// the test moves.
type office struct {
	*testing.T
	history *history
	ledger  *ledger
	now     time.Time
}

func newOffice(t *testing.T) *office {
	timing, err := NewTiming(300*time.Millisecond, 4*time.Millisecond, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	o := &office{T: t, history: newHistory(t), ledger: &ledger{timing: timing}, now: time.Now()}
	for _, n := range []string{"a", "b", "c"} {
		o.history.join(n, 1)
	}
	o.history.define("web", 9)
	o.history.replan()
	o.elect()
	return o
}

// elect begins the term anew.
func (o *office) elect() {
	o.ledger.begin(testTerm, o.now, 0)
	o.ledger.setReady(testTerm)
}

// pass lets time pass, in hundredths of the lease.
func (o *office) pass(hundredths int) {
	o.now = o.now.Add(o.ledger.timing.Lease * time.Duration(hundredths) / 100)
}

// renewal is what a node that follows says.
func (o *office) renewal(node string) renewal {
	return renewal{Node: node, ServerID: "id-" + node, Process: 1, level: level{Held: o.history.state.Index, Released: o.history.state.Index}}
}

func (o *office) state() *raftstore.State { return o.history.state }

func (o *office) ask(r renewal) error {
	_, err := o.ledger.grant(o.now, testTerm, o.state, r, r.Rest, func() uint64 { return o.history.state.Index })
	return err
}

// renewAll renews the leases of the nodes and demands that they are granted.
func (o *office) renewAll(nodes ...string) {
	o.Helper()
	for _, n := range nodes {
		if err := o.ask(o.renewal(n)); err != nil {
			o.Fatalf("%s is refused: %v", n, err)
		}
	}
}

func (o *office) wantDead(why string, want ...string) {
	o.Helper()
	if got := o.ledger.judge(o.now, o.history.state); !slices.Equal(got, want) {
		o.Fatalf("%s: judged %v, want %v", why, got, want)
	}
}

func TestSilentNodeIsJudgedOneLeaseAndMarginAfterItsGrant(t *testing.T) {
	o := newOffice(t)
	o.pass(200)
	o.renewAll("a", "b", "c")
	o.pass(100)
	o.renewAll("a", "b")
	o.pass(9)
	o.wantDead("its lease may run for L + M")
	o.pass(2)
	o.wantDead("L + M are over", "c")
	o.wantDead("once is enough")
}

// Its requests arrive, and the answers do not, or too late: it is silent, and
// its buckets would stay without an owner for as long as that lasts.
func TestNodeThatGetsNoLeaseIsDeadP5(t *testing.T) {
	o := newOffice(t)
	unreached := o.renewal("c")
	unreached.Silent = true
	for range 6 {
		o.renewAll("a", "b")
		if err := o.ask(unreached); err != nil {
			t.Fatalf("refused before a lease is over: %v", err)
		}
		o.pass(17)
	}
	for range 7 {
		o.renewAll("a", "b")
		if err := o.ask(unreached); !errors.Is(err, ErrUnreached) {
			t.Fatalf("silent for more than a lease, and granted another: %v", err)
		}
		o.pass(17)
	}
	o.wantDead("the last lease that it was granted is over", "c")
	o.history.die("c")
	o.ledger.pardon(testTerm, "c")
	o.renewAll("a", "b")
	unreached.Held = o.history.state.Index
	if err := o.ask(unreached); err != nil {
		t.Fatalf("it could never show that it is reached again: %v", err)
	}
	if back := o.ledger.returned(o.now, o.history.state); len(back) > 0 {
		t.Fatalf("%v returned without a lease", back)
	}
	o.renewAll("c")
	if back := o.ledger.returned(o.now, o.history.state); !slices.Equal(back, []string{"c"}) {
		t.Fatalf("returned: %v; c has a lease", back)
	}
}

// What it said before it was cut off says nothing of now.
func TestSilenceIsCountedWithoutABreakP5(t *testing.T) {
	o := newOffice(t)
	unreached := o.renewal("c")
	unreached.Silent = true
	for range 3 {
		if err := o.ask(unreached); err != nil {
			t.Fatal(err)
		}
		o.pass(105)
	}
}

func TestJudgedNodeIsGrantedNothingP4(t *testing.T) {
	o := newOffice(t)
	o.pass(120)
	o.renewAll("a", "b")
	o.wantDead("silent since the election", "c")
	o.ledger.pardon(testTerm-1, "c") // of an earlier term, and late
	if err := o.ask(o.renewal("c")); !errors.Is(err, ErrJudged) {
		t.Fatalf("a node whose buckets are being given away: %v", err)
	}
	o.ledger.pardon(testTerm, "c")
	o.renewAll("c")
}

func TestLeaderGrantsNothingBeforeAnEntryOfItsTermP3(t *testing.T) {
	o := newOffice(t)
	o.ledger.begin(testTerm, o.now, 0)
	if err := o.ask(o.renewal("a")); !errors.Is(err, ErrNotReady) {
		t.Fatalf("before its own entry is applied: %v", err)
	}
	o.ledger.end()
	if err := o.ask(o.renewal("a")); !errors.Is(err, ErrNotLeader) {
		t.Fatalf("after its term: %v", err)
	}
}

func TestStuckLeaderGrantsNothingP10(t *testing.T) {
	o := newOffice(t)
	o.ledger.setStuck(true)
	if err := o.ask(o.renewal("a")); !errors.Is(err, ErrStuck) {
		t.Fatalf("a leader that cannot commit: %v", err)
	}
	o.ledger.setStuck(false)
	o.renewAll("a")
}

func TestNodeThatDoesNotFollowIsRefusedP5(t *testing.T) {
	o := newOffice(t)
	o.renewAll("a", "b", "c")
	behind := o.renewal("c")
	o.history.must(raftstore.Command{Wish: &raftstore.Wish{Node: "b", Out: true}})
	for range 10 {
		o.pass(10)
		o.renewAll("a", "b")
		if err := o.ask(behind); err != nil {
			t.Fatalf("behind for less than a lease: %v", err)
		}
	}
	o.pass(20)
	o.renewAll("a", "b")
	if err := o.ask(behind); !errors.Is(err, ErrBehind) {
		t.Fatalf("behind for more than a lease: %v", err)
	}
	o.pass(110)
	o.renewAll("a", "b")
	o.wantDead("refused for L + M", "c")
}

func TestNodeThatFollowsAMovingMapIsNotBehindP5(t *testing.T) {
	o := newOffice(t)
	held := o.history.state.Index
	for i := range 30 {
		o.history.must(raftstore.Command{Wish: &raftstore.Wish{Node: "b", Out: i%2 == 0}})
		o.pass(20)
		r := o.renewal("c")
		r.Held = held
		if err := o.ask(r); err != nil {
			t.Fatalf("a node always one map behind: %v", err)
		}
		held = o.history.state.Index
	}
}

func TestStrangersAreGrantedNothing(t *testing.T) {
	o := newOffice(t)
	wiped := o.renewal("a")
	wiped.ServerID = "another"
	for _, r := range []renewal{wiped, {Node: "x", ServerID: "id-x"}} {
		if err := o.ask(r); !errors.Is(err, ErrStranger) {
			t.Fatalf("%s with id %s: %v", r.Node, r.ServerID, err)
		}
	}
}

// rest has c restart: it is granted a restart lease, with its entry in the log.
func (o *office) rest() {
	o.Helper()
	r := o.renewal("c")
	r.Rest = o.ledger.timing.Rest
	o.history.must(raftstore.Command{Rest: &raftstore.Rest{Node: "c", For: r.Rest, By: r.Process}})
	if err := o.ask(r); err != nil {
		o.Fatalf("restart lease refused: %v", err)
	}
}

func TestRestartingNodeIsWaitedFor(t *testing.T) {
	o := newOffice(t)
	o.pass(200)
	o.renewAll("a", "b", "c")
	o.rest()
	for range 33 { // 9.9 s
		o.pass(100)
		o.renewAll("a", "b")
		o.wantDead("its kernel answers by the restart lease")
	}
	// A hundredth of 10 s is more than a lease's ordinary margin.
	o.pass(60)
	o.renewAll("a", "b")
	o.wantDead("its clock may be slow")
	o.pass(60)
	o.renewAll("a", "b")
	o.wantDead("the restart lease is over", "c")
}

func TestLateRenewalFromBeforeTheRestartShortensNothing(t *testing.T) {
	o := newOffice(t)
	o.pass(200)
	o.renewAll("a", "b", "c")
	late := o.renewal("c") // under way while the node asks to rest
	o.rest()
	if got := o.ledger.rested(o.history.state); len(got) != 0 {
		t.Fatalf("restart ended before it began: %v", got)
	}
	if err := o.ask(late); err != nil {
		t.Fatal(err)
	}
	o.pass(200)
	o.renewAll("a", "b")
	o.wantDead("a request from before the restart cannot end it")
	if got := o.ledger.rested(o.history.state); len(got) != 0 {
		t.Fatalf("restart ended by a late request: %v", got)
	}
}

func TestNextLeaderWaitsForARestartingNode(t *testing.T) {
	o := newOffice(t)
	o.rest()
	o.elect()
	o.pass(200)
	o.renewAll("a", "b")
	o.wantDead("the state says that it restarts")
	late := o.renewal("c")
	if err := o.ask(late); err != nil {
		t.Fatal(err)
	}
	o.pass(200)
	o.renewAll("a", "b")
	o.wantDead("a late request shortens nothing under the next leader either")
}

func TestRestartEndsWhenTheNewProcessHasAnOrdinaryLease(t *testing.T) {
	o := newOffice(t)
	o.pass(200)
	o.rest()
	back := o.renewal("c")
	back.Process, back.Resting = 2, true
	if err := o.ask(back); err != nil {
		t.Fatal(err)
	}
	o.pass(150)
	o.renewAll("a", "b")
	o.wantDead("its kernel may hold the restart lease still")
	back.Resting = false
	if err := o.ask(back); err != nil {
		t.Fatal(err)
	}
	if got := o.ledger.rested(o.history.state); !slices.Equal(got, []string{"c"}) {
		t.Fatalf("restart not ended: %v", got)
	}
	o.pass(120)
	o.renewAll("a", "b")
	o.wantDead("back under an ordinary lease", "c")
}

func TestFailedNodeReturnsOnceItHoldsTheMapThatTookItsBuckets(t *testing.T) {
	o := newOffice(t)
	before := o.history.state.Index
	o.pass(120)
	o.renewAll("a", "b")
	o.wantDead("silent", "c")
	o.history.die("c")
	o.ledger.pardon(testTerm, "c")
	stale := o.renewal("c")
	stale.Held = before
	if err := o.ask(stale); err != nil {
		t.Fatal(err)
	}
	if got := o.ledger.returned(o.now, o.history.state); len(got) != 0 {
		t.Fatalf("back with the map in which it owns buckets: %v", got)
	}
	o.renewAll("c")
	if got := o.ledger.returned(o.now, o.history.state); !slices.Equal(got, []string{"c"}) {
		t.Fatalf("not back: %v", got)
	}
}

func TestTimingRefusesALeaseThatTimersCannotKeep(t *testing.T) {
	for lease, jiffy := range map[time.Duration]time.Duration{
		59 * time.Millisecond:  time.Millisecond,
		11 * time.Second:       time.Millisecond,
		100 * time.Millisecond: 10 * time.Millisecond,
	} {
		if _, err := NewTiming(lease, jiffy, 0); !errors.Is(err, ErrLease) {
			t.Errorf("lease %v at a tick of %v: %v", lease, jiffy, err)
		}
	}
}

func TestAccountOfANodeThatWasNeverHeardIsEmpty(t *testing.T) {
	o := newOffice(t)
	o.pass(200)
	o.renewAll("a")
	o.wantDead("never heard", "b", "c")
	accounts := o.ledger.accounts(o.now)
	if left := accounts["c"].left; left != 0 {
		t.Fatalf("%v of a lease are left to a node that was never heard", left)
	}
	if left, want := accounts["a"].left, 270*time.Millisecond; left != want {
		t.Fatalf("%v are left of a lease just granted, want %v", left, want)
	}
}

func TestRestIsNotEndedByWhatTheNodeSaidBefore(t *testing.T) {
	o := newOffice(t)
	o.renewAll("a", "b", "c")
	o.history.must(raftstore.Command{Rest: &raftstore.Rest{Node: "c", For: time.Second, By: 1}})
	if got := o.ledger.rested(o.history.state); len(got) != 0 {
		t.Fatalf("restart ended between its entry and its grant: %v", got)
	}
}
