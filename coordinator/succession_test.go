package coordinator

import (
	"testing"
	"time"
)

func TestNewLeaderWaitsForLeasesThatItDidNotGrantP6(t *testing.T) {
	o := newOffice(t)
	o.pass(109)
	o.wantDead("the leader before may have granted a lease until just before the election")
	o.pass(2)
	o.wantDead("nobody has been heard since", "a", "b", "c")
}

// succeed elects a leader after c and tells it when others were last answered, in
// hundredths of the lease.
func (o *office) succeed(hundredths int) {
	o.elect()
	o.ledger.succeed(testTerm, "c", o.now.Add(-o.ledger.timing.Lease*time.Duration(hundredths)/100))
}

// For the leader before, the wait counts from the last time that anybody had
// a majority, if only it is given the time to be heard. The others live.
func TestTheTimeOfTheElectionCountsP6(t *testing.T) {
	o := newOffice(t)
	o.succeed(40)
	o.pass(69)
	o.wantDead("a lease that was granted just before may run")
	o.pass(2)
	o.wantDead("it is over", "c")
	o.pass(38)
	o.wantDead("the others may be about to ask")
	o.pass(2)
	o.wantDead("they have not asked", "a", "b")
	o = newOffice(t)
	o.succeed(90)
	o.pass(49)
	o.wantDead("it may be alive, and about to ask")
	o.pass(2)
	o.wantDead("it has not asked", "c")
}

// A judgement that was put off is not brought forward by what is told then, nor
// by what is told of another term, and none is put off by it.
func TestTheLastAnswerIsToldLateP6(t *testing.T) {
	o := newOffice(t)
	o.ledger.delay(o.now.Add(o.ledger.timing.Lease))
	o.ledger.succeed(testTerm, "c", time.Time{})
	o.pass(99)
	o.wantDead("it was put off for a lease")
	o.pass(2)
	o.wantDead("that is over", "c")
	o = newOffice(t)
	o.ledger.succeed(testTerm, "c", time.Time{})
	o.ledger.delay(o.now.Add(o.ledger.timing.Lease))
	o.pass(99)
	o.wantDead("it is put off for a lease")
	o = newOffice(t)
	o.ledger.succeed(testTerm, "c", o.now.Add(o.ledger.timing.Lease))
	o.pass(109)
	o.wantDead("the wait from the election is not over")
	o.pass(2)
	o.wantDead("it is, whenever others were answered", "a", "b", "c")
	o = newOffice(t)
	o.ledger.succeed(testTerm-1, "c", time.Time{})
	o.ledger.succeed(testTerm, "", time.Time{})
	o.pass(109)
	o.wantDead("it is not known who led before")
}

// The leader looks when somebody is to be judged, and not at its next turn.
func TestTheNextJudgementIsDue(t *testing.T) {
	o := newOffice(t)
	want := func(why string, hundredths int) {
		t.Helper()
		at, any := o.ledger.due(o.now, o.history.state)
		if wait := at.Sub(o.now); hundredths < 0 && any || hundredths >= 0 && wait != o.ledger.timing.Lease*time.Duration(hundredths)/100 {
			t.Errorf("%s: %v, %v", why, wait, any)
		}
	}
	want("nobody was looked at yet", -1)
	o.wantDead("nobody is")
	want("the grace", 110)
	o.pass(100)
	o.renewAll("a", "b")
	want("the grace of the silent one", 10)
	o.pass(11)
	o.wantDead("the grace is over", "c")
	want("the others", 99)
	o.ledger.pardon(testTerm, "c")
	want("the others, while a burial is tried again", 99)
	o.ledger.end()
	want("no leader", -1)
}

func TestRestartingFormerLeaderIsWaitedForP6(t *testing.T) {
	o := newOffice(t)
	o.rest()
	o.succeed(90)
	o.renewAll("a", "b")
	o.pass(100)
	o.renewAll("a", "b")
	o.wantDead("it led, and restarts")
}
