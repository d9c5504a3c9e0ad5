package coordinator

import (
	"errors"
	"testing"
)

// A new process has no lease of its own while it reads its log, however long
// that takes: the kernel answers by the restart lease, and nobody waits longer
// for a node that is granted what is over sooner.
func TestARestartingNodeMayReadItsLogForLongP5(t *testing.T) {
	o := newOffice(t)
	o.pass(200)
	o.renewAll("a", "b", "c")
	o.rest()
	back := o.renewal("c")
	back.Process, back.Resting, back.Silent = 2, true, true
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
	o := newOffice(t)
	o.pass(200)
	o.renewAll("a", "b", "c")
	o.rest()
	back := o.renewal("c")
	back.Process, back.Resting, back.Silent = 2, true, true
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
