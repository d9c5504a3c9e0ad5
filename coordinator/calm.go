package coordinator

import (
	"context"
	"time"

	"earshot/hashmode"
	"earshot/raftstore"
)

// lull is how many leases after an election or a death nothing is evened out:
// what made one node fail may be about to make others fail.
const lull = 4

// formation is how a leader watches the first formation of a cluster.
type formation struct {
	nodes int
	since time.Time // so many, and all of them following
}

// tend enters what depends on how long nodes have done well.
func (l *leader) tend(ctx context.Context, now time.Time) {
	st := l.store.State()
	if !st.Formed {
		l.watchFormation(ctx, now, st)
		return
	}
	for _, credit := range l.ledger.credits(now, st, l.ledger.damping.get()) {
		l.log.Info("node has done well", "node", credit.Node, "trusted", credit.Trust, "forgiven", credit.Forgive)
		l.try(ctx, raftstore.Command{Credit: &credit})
	}
}

// watchFormation ends the first formation when no node has come for as long as
// a newcomer would have to wait. With an older member it does not end.
func (l *leader) watchFormation(ctx context.Context, now time.Time, st *raftstore.State) {
	f := &l.formation
	missing := l.ledger.misses(now, st)
	if f.nodes != len(st.Nodes) || f.since.IsZero() || missing {
		*f = formation{nodes: len(st.Nodes), since: now}
	}
	if missing || now.Sub(f.since) < l.ledger.damping.get().Mature {
		return
	}
	if err := l.commit(ctx, raftstore.Command{Formed: &raftstore.Formed{Term: l.term}}); err != nil {
		l.log.Debug("formation not ended", "error", err)
		f.since = now.Add(l.timing.Tick) // not at every step
		return
	}
	l.log.Info("the cluster has formed", "nodes", f.nodes)
}

// heed takes in how much patience the config asks for now. The moves of this
// round count under the new one, too.
func (l *leader) heed(d Damping) {
	if l.pace.Damping != d {
		l.pace.Damping, l.idle = d, nil
	}
}

// disturb notes that something has happened after which nothing is to be
// evened out for a while.
func (l *leader) disturb(now time.Time) { l.disturbed = now }

// leeway is what the plan may do now. Nothing is evened out in the middle of a
// failure; until the cluster has formed, nothing bounds it.
func (l *leader) leeway(now time.Time, st *raftstore.State) leeway {
	if !st.Formed {
		return leeway{even: true}
	}
	calm := l.disturbed.Add(max(lull*l.timing.Lease, l.ledger.damping.get().Round))
	switch {
	case now.Before(calm):
		return leeway{until: calm}
	case l.ledger.misses(now, st):
		return leeway{until: now.Add(l.timing.Renew)}
	}
	return l.pace.leeway(now)
}

// plan gives buckets without an owner away, and evens the shares out.
func (l *leader) plan(ctx context.Context, now time.Time) {
	st := l.store.State()
	if st == l.idle && (l.idleUntil.IsZero() || now.Before(l.idleUntil)) {
		return
	}
	known := l.news.all()
	anyBusy := false
	way := l.leeway(now, st)
	moves := plan(st, func(service string, b hashmode.Bucket) bool {
		busy := untaken(st.Services[service].Map[b], known)
		anyBusy = anyBusy || busy
		return busy
	}, way)
	switch {
	case len(moves) > 0:
		l.log.Info("moving buckets", "epoch", st.Epoch, "moves", moves)
		l.try(ctx, raftstore.Command{Assign: &raftstore.Assign{Epoch: st.Epoch, Moves: moves}})
		l.pace.spend(time.Now(), st, moves)
	case !anyBusy:
		l.idle, l.idleUntil = st, way.until
	}
}
