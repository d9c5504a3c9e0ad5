package coordinator

import (
	"maps"
	"slices"
	"strings"
	"time"

	"earshot/raftstore"
)

// conduct is how a node has behaved in a leader's term, by the leader's clock.
// A later leader begins anew: what it must know, the counts of losses and who
// is held, is in the state.
type conduct struct {
	since   time.Time            // it follows without a break
	ill     map[string]time.Time // when it last could not serve a service
	forgave map[string]time.Time // when a loss was last forgotten
}

// hear notes a renewal. until is when the lease before ran out: one that was
// silent for longer, or that is another process, has had a break.
func (c *conduct) hear(now time.Time, r renewal, process int64, until time.Time) {
	if c.since.IsZero() || now.After(until) || process != 0 && r.Process != process {
		c.since = now
	}
	for service := range r.Unfit {
		if c.ill == nil {
			c.ill = map[string]time.Time{}
		}
		c.ill[service] = now
	}
}

// wellSince is since when the node has done well: with a service, or as a
// whole for "".
func (c *conduct) wellSince(what string) time.Time {
	if what != "" && c.ill[what].After(c.since) {
		return c.ill[what]
	}
	return c.since
}

// heldUntil is when a node that is on probation will have proved itself.
func (c *conduct) heldUntil(n raftstore.Node, d Damping) time.Time {
	return c.since.Add(d.hold(n.Losses[""]))
}

// heldFrom is the same for a service that it could not serve.
func (c *conduct) heldFrom(n raftstore.Node, service string, d Damping, s scarcity) time.Time {
	if s.orphans {
		return time.Time{}
	}
	return c.wellSince(service).Add(d.holdOfService(n.Losses[service], s.alone))
}

// scarcity says how badly a service needs one more node.
type scarcity struct {
	alone   bool // nobody serves it
	orphans bool // a bucket of it has no living owner: it waits for nothing
}

// scarcityOf looks at a service. A bucket of an owner that is ill, while
// nobody serves, has one that answers after all.
func scarcityOf(st *raftstore.State, service string) scarcity {
	s := scarcity{alone: true}
	for _, n := range st.Nodes {
		s.alone = s.alone && !(n.Serves(service) && n.Follows())
	}
	for _, slot := range st.Services[service].Map {
		if owner, known := st.Nodes[slot.Owner]; s.alone && (!known || !owner.In()) {
			s.orphans = true
			break
		}
	}
	return s
}

// unfit is what the state is to have of a node: what it says, and of what it
// could not serve until now also that for which it has not done well for long
// enough. What it can answer for if nobody serves stays as it was for these. An
// illness is entered at once.
func (c *conduct) unfit(now time.Time, st *raftstore.State, n raftstore.Node, says map[string]string, spare map[string]bool, d Damping) (map[string]string, map[string]bool) {
	held := map[string]string{}
	for service, why := range n.Unfit {
		if _, still := says[service]; !still && now.Before(c.heldFrom(n, service, d, scarcityOf(st, service))) {
			held[service] = why
		}
	}
	if len(held) == 0 {
		return says, spare
	}
	kept := maps.Clone(spare)
	for service := range held {
		if passes, known := n.Spare[service]; known {
			if kept == nil {
				kept = map[string]bool{}
			}
			kept[service] = passes
		}
	}
	maps.Copy(held, says)
	return held, kept
}

// earned is what the node has earned by now, and whether it is anything.
func (c *conduct) earned(now time.Time, n raftstore.Node, d Damping) (raftstore.Credit, bool) {
	credit := raftstore.Credit{Node: n.Name, Since: n.Changed}
	credit.Trust = n.Held && !now.Before(c.heldUntil(n, d))
	for _, what := range slices.Sorted(maps.Keys(n.Losses)) {
		if _, unfit := n.Unfit[what]; unfit || n.Held {
			continue // what it is held for is not forgotten meanwhile
		}
		well := c.wellSince(what)
		if c.forgave[what].After(well) {
			well = c.forgave[what]
		}
		if !now.Before(well.Add(d.forgiveness(n.Losses[what]))) {
			credit.Forgive = append(credit.Forgive, what)
		}
	}
	return credit, credit.Trust || len(credit.Forgive) > 0
}

// forgive notes that losses are being forgotten.
func (c *conduct) forgive(now time.Time, what []string) {
	for _, w := range what {
		if c.forgave == nil {
			c.forgave = map[string]time.Time{}
		}
		c.forgave[w] = now
	}
}

// credits lists what nodes have earned by now, by name.
func (l *ledger) credits(now time.Time, st *raftstore.State, d Damping) []raftstore.Credit {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []raftstore.Credit
	for name, t := range l.tenants {
		n, known := st.Nodes[name]
		if !known || n.Failed || n.ServerID != t.serverID || t.judged || !now.Before(t.until) || t.held < n.Changed {
			continue
		}
		if credit, any := t.conduct.earned(now, n, d); any {
			credit.Term = l.term
			t.conduct.forgive(now, credit.Forgive)
			all = append(all, credit)
		}
	}
	slices.SortFunc(all, func(a, b raftstore.Credit) int { return strings.Compare(a.Node, b.Node) })
	return all
}

// misses reports a node that should be heard and is not, or has no lease: a
// failure may be under way. One that restarts is expected to be silent.
func (l *ledger) misses(now time.Time, st *raftstore.State) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, n := range st.Nodes {
		if n.Failed || !n.Follows() {
			continue
		}
		t := l.tenants[name]
		if t == nil || t.serverID != n.ServerID || t.judged || t.silent() || !now.Before(t.until) || now.Sub(t.heard) > l.timing.Lease/2 {
			return true
		}
	}
	return false
}

// holds tells, for the nodes and services that are held, until when.
func (l *ledger) holds(now time.Time, st *raftstore.State) map[string]map[string]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string]map[string]time.Time{}
	damping := l.damping.get()
	if l.term == 0 {
		return all
	}
	for name, t := range l.tenants {
		n, known := st.Nodes[name]
		if !known || n.ServerID != t.serverID || !now.Before(t.until) {
			continue
		}
		until := map[string]time.Time{}
		if n.Held {
			until[""] = t.conduct.heldUntil(n, damping)
		}
		for service := range n.Unfit {
			if _, still := t.unfit[service]; !still {
				until[service] = t.conduct.heldFrom(n, service, damping, scarcityOf(st, service))
			}
		}
		all[name] = until
	}
	return all
}
