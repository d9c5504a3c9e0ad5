package coordinator

import (
	"context"
	"math/rand/v2"
	"time"

	"earshot/raftstore"
)

// greetingCrowd is the number of nodes from which on they take the time between
// two renewals to ask a new leader.
const greetingCrowd = 32

// greeting has a node ask for a lease as soon as somebody leads anew. The next
// renewal may be due a sixth of a lease later, and an election leaves little of
// the lease that the former leader has granted.
type greeting struct {
	renew  time.Duration // the time between two renewals
	ask    func()
	leader raftstore.Leadership // that was asked last
}

// look takes in who leads. ready says that this node, if it does, has taken
// office. The more nodes there are, the longer each may wait: a leader that all
// ask at the same moment is late for all of them, and is not the leader for long.
func (g *greeting) look(lead raftstore.Leadership, ready bool, nodes int) {
	known := lead.Self && ready || !lead.Self && lead.Addr != ""
	if !known || lead.Term == g.leader.Term && lead.Addr == g.leader.Addr {
		return
	}
	g.leader = lead
	time.AfterFunc(rand.N(1+g.renew*time.Duration(min(nodes, greetingCrowd))/greetingCrowd), g.ask)
}

// awaitReady waits until this node may grant leases (rule P3), while it leads and
// for a third of a lease at most: in the first moments of a term all nodes ask,
// and one that is refused asks again so much later.
func (l *leader) awaitReady(ctx context.Context, term uint64) {
	ctx, cancel := context.WithTimeout(ctx, l.timing.Lease/3)
	defer cancel()
	for !l.ledger.readyIn(term) && l.leadsIn(term) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(l.timing.Gather):
		}
	}
}
