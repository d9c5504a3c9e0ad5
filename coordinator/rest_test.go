package coordinator

import (
	"errors"
	"testing"
	"testing/synctest"

	"earshot/raftstore"
)

// restarting is an office in which c has been granted a restart lease, and what its
// new process asks while it reads its log.
func restarting(t *testing.T) (*office, renewal) {
	o := newOffice(t)
	o.pass(200)
	o.renewAll("a", "b", "c")
	o.rest()
	back := o.renewal("c")
	back.Process, back.Resting, back.Silent = 2, true, true
	return o, back
}

// A new process has no lease of its own while it reads its log, however long
// that takes: the kernel answers by the restart lease, and nobody waits longer
// for a node that is granted what is over sooner.
func TestARestartingNodeMayReadItsLogForLongP5(t *testing.T) {
	o, back := restarting(t)
	for range 120 { // 6 s
		o.pass(17)
		o.renewAll("a", "b")
		if err := o.ask(back); err != nil {
			t.Fatalf("refused under its restart lease: %v", err)
		}
	}
	back.Resting, back.Silent = false, false
	for range 120 {
		if err := o.ask(back); err != nil {
			t.Fatalf("refused with a lease: %v", err)
		}
		o.pass(17)
		o.renewAll("a", "b")
	}
	o.wantDead("c is back in time")
}

// One that gets no lease by the end of its restart lease is waited for no
// longer, whatever it asks for.
func TestARestartThatReadsForEverEndsWithItsLeaseP5(t *testing.T) {
	o, back := restarting(t)
	for range 33 * 6 { // 10.1 s
		o.pass(17)
		o.renewAll("a", "b")
		if err := o.ask(back); err != nil && !errors.Is(err, ErrUnreached) {
			t.Fatal(err)
		}
	}
	o.wantDead("its clock may be slow")
	o.pass(40)
	o.renewAll("a", "b")
	if err := o.ask(back); !errors.Is(err, ErrUnreached) {
		t.Fatalf("granted more than its restart lease: %v", err)
	}
	o.wantDead("the restart lease is over", "c")
}

// restless is a store in which a node's rest is entered and granted right after
// somebody has looked at the state, if the ledger lets it.
type restless struct {
	*modelStore
	ledger *ledger
	rest   func()
}

func (s *restless) State() *raftstore.State {
	st := s.modelStore.State()
	if s.rest != nil && s.ledger.mu.TryLock() {
		s.ledger.mu.Unlock()
		rest := s.rest
		s.rest = nil
		rest()
	}
	return st
}

// An ordinary request of the process that goes to rest is answered by the
// state in which it rests, or before its rest is granted.
func TestARequestBesideARestShortensNothingP4(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		store := &restless{ledger: o.ledger, modelStore: &modelStore{
			history: o.history, lead: raftstore.Leadership{Term: testTerm, Self: true},
		}}
		l := &leader{
			store: store, timing: o.ledger.timing, ledger: o.ledger, news: newNews(),
			quorum: &quorum{store: store, own: &hearsay{}, timing: o.ledger.timing},
		}
		store.rest = o.rest
		if _, err := l.grantTo(t.Context(), o.renewal("c")); err != nil {
			t.Fatal(err)
		}
		if store.rest != nil {
			o.rest()
		}
		if left := o.ledger.tenants["c"].until.Sub(o.now); left < o.ledger.timing.Rest {
			t.Fatalf("waited for %v at a rest of %v", left, o.ledger.timing.Rest)
		}
	})
}
