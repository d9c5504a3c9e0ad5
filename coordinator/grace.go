package coordinator

import (
	"fmt"
	"time"

	"earshot/raftstore"
)

// begin starts the account of a term. Whoever led before may have granted
// leases until just now, for all that is known yet, so silence counts from
// when those are over (rule P6). Leases for a restart are in the state.
func (l *ledger) begin(term uint64, now time.Time, extra time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.term, l.ready, l.looked, l.stuck = term, false, false, false
	l.tenants = map[string]*tenancy{}
	l.elected, l.respite = now.Add(extra), now.Add(l.timing.Respite+extra)
	l.former, l.answered = "", l.elected
}

// succeed takes in when a majority last answered a leader before the term: no
// lease was asked for later, so that all are over sooner. That is for the
// leader before alone, which is most likely dead. The others live, and have to
// be heard first, by a leader that all of them ask at once.
func (l *ledger) succeed(term uint64, former string, answered time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term == term && answered.Before(l.elected) {
		l.former, l.answered = former, answered
	}
}

// graceOf is when the node's silence begins to count: its leases of earlier
// terms are over, and it could be heard.
func (l *ledger) graceOf(n raftstore.Node) time.Time {
	granted := l.elected
	if n.Name == l.former {
		granted = l.answered
	}
	return latest(l.respite, granted.Add(l.patienceFor(n)))
}

// patienceFor is how long a lease is waited for that the node asked for by now.
func (l *ledger) patienceFor(n raftstore.Node) time.Duration {
	return l.timing.patience(l.leaseOf(n))
}

// leaseOf is the node's own lease, which its configuration says. Nodes differ
// in it while somebody changes it on one after the other.
func (l *ledger) leaseOf(n raftstore.Node) time.Duration {
	if n.Lease > 0 {
		return n.Lease
	}
	return l.timing.Lease
}

// known refuses a lease that is longer than the state says of the node: another
// leader would not wait for it.
func (l *ledger) known(n raftstore.Node, r renewal) error {
	if lease := l.leaseOf(n); r.Lease > lease {
		return fmt.Errorf("%w: of %v, and the cluster knows of %v", ErrUntold, r.Lease, lease)
	}
	return nil
}

// delay postpones every judgement: the leader itself was not running.
func (l *ledger) delay(until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.respite = latest(l.respite, until)
}

// supersede judges a node whose name a server with another disk is to have: not
// while it may hold a lease. It can be repeated.
func (l *ledger) supersede(now time.Time, term uint64, n raftstore.Node) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.inOffice(term) {
		return ErrNotReady
	}
	t := l.tenant(now, n)
	switch {
	case t.superseded:
		return nil
	case t.judged:
		return ErrJudged
	case now.Before(t.until), !n.Failed && now.Before(l.graceOf(n)):
		return errMayLive // one that is judged dead may be about to return
	}
	t.judged, t.superseded = true, true
	return nil
}

// settle ends what supersede has begun in the term, and no other judgement.
func (l *ledger) settle(term uint64, node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.tenants[node]; l.term == term && t != nil && t.superseded {
		t.judged, t.superseded = false, false
	}
}

// latest returns the later of two times.
func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
