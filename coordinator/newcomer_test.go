package coordinator

import "testing"

// A node that has just joined is not dead for not having been heard yet, and
// is a lease later.
func TestNewcomerHasALeaseOfTimeToBeHeard(t *testing.T) {
	o := newOffice(t)
	o.pass(50)
	o.renewAll("a", "b", "c")
	o.wantDead("all are heard")
	o.pass(80)
	o.renewAll("a", "b", "c")
	o.history.join("d", 1)
	o.wantDead("d has just joined")
	o.pass(100)
	o.renewAll("a", "b", "c")
	o.wantDead("it may be heard yet")
	o.pass(11)
	o.wantDead("it was not heard", "d")
}
