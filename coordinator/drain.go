package coordinator

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"earshot/hashmode"
	"earshot/nft"
	"earshot/raftstore"
)

// drainPoll is the time between two looks at the flows of draining buckets. A
// drain is over when two looks in a row, at least a second apart, find none:
// a connection just accepted may not be listed yet (rule P16).
const drainPoll = 1100 * time.Millisecond

// restAfter is how long no count of flows is made after one that took so long:
// to list those of a busy node takes a good part of a second, and a drain lasts
// for minutes, so counts take a twentieth of a processor at most. A count may also
// take long because the process was stopped, which says nothing of the next.
func restAfter(took time.Duration) time.Duration { return min(19*took, longestRest) }

const longestRest = 20 * time.Second

// drainer finds the end of this node's drains and tells the leader.
type drainer struct {
	node     string
	wiring   *wiring
	store    Store
	kernel   Kernel
	released func() uint64
	propose  func(context.Context, raftstore.Command) error
	log      *slog.Logger
	// deaf reports that no packet of a service can reach this node.
	deaf func(service string) bool
	// wake has the drainer look whether there is something to end at once, or
	// to tell.
	wake    chan struct{}
	endings *endings
	// patience is for how long after a release, of which releasedAt was the last,
	// new owners may still ask whose a held SYN is. Once there is nobody to ask
	// they drop it, and its client waits a second: no end is told before.
	patience   func(*raftstore.State) time.Duration
	releasedAt func() time.Time

	mu   sync.Mutex
	ends map[string]time.Time // when the last drain is over at the latest, by service
}

// left is the time until the limit of each service's last drain.
func (d *drainer) left(now time.Time) map[string]time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := map[string]time.Duration{}
	for service, end := range d.ends {
		all[service] = max(end.Sub(now), 0)
	}
	return all
}

// expect notes until when drains may last.
func (d *drainer) expect(st *raftstore.State, memory drains) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ends = map[string]time.Time{}
	for service, buckets := range memory {
		for _, e := range buckets {
			if end := e.started.Add(st.Services[service].Drain); end.After(d.ends[service]) {
				d.ends[service] = end
			}
		}
	}
}

// draining is what a drainer remembers of one bucket.
type draining struct {
	since   uint64    // the move that began it
	started time.Time // when this agent first saw it
	empty   int       // looks in a row that found no flow
	seen    uint64    // what the kernel had released at the first of those
}

// drains is the memory of all draining buckets, by service.
type drains map[string]map[hashmode.Bucket]draining

// run watches until ctx ends.
func (d *drainer) run(ctx context.Context) error {
	ticker := time.NewTicker(drainPoll)
	defer ticker.Stop()
	changed, cancel := d.store.Changed()
	defer cancel()
	memory, rested := drains{}, time.Time{}
	due := time.NewTimer(time.Hour)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			d.cut()
		case <-d.wake:
			d.cut()
		case <-due.C:
		case began := <-ticker.C:
			if began.Before(rested) {
				d.cut()
				break
			}
			memory = d.look(memory)
			rested = time.Now().Add(restAfter(time.Since(began)))
		}
		if next := d.finish(ctx); !next.IsZero() {
			due.Reset(time.Until(next))
		}
	}
}

// dead reports that the node's flows of a service are lost, so that nothing is
// to be waited for: the operator says so (earshot out --now), the service does
// of a server that is ill, or no packet of theirs comes in.
func (d *drainer) dead(st *raftstore.State, service string) bool {
	return st.Nodes[d.node].Cut || d.resets(st, service) || d.deaf(service)
}

// resets reports that the node's flows of a service are to be reset: its
// server is ill, and the service says so (on_fail: cut).
func (d *drainer) resets(st *raftstore.State, service string) bool {
	_, unfit := st.Nodes[d.node].Unfit[service]
	return unfit && st.Services[service].OnFail == raftstore.OnFailCut
}

// cut ends the drains of flows that are lost, without a look at them.
func (d *drainer) cut() {
	st, released := d.store.State(), d.released()
	due := d.due()
	for name, v := range st.Services {
		if !d.dead(st, name) {
			continue
		}
		for b := range rolesOf(v.Map, d.node, nil)[drain].All() {
			if v.Map[b].Since <= released {
				d.endings.add(v, b, released, due)
			}
		}
	}
}

// due is when the end of a drain can be told that has been released by now.
func (d *drainer) due() time.Time { return d.releasedAt().Add(d.patience(d.store.State())) }

// reset tells clients that their connections are lost. Those that send
// something hear it of the new owner, too; those that wait for an answer would
// wait for ever.
func (d *drainer) reset(st *raftstore.State, service string, buckets hashmode.Set) {
	rs := desired(st, d.node, knowledge{interfaces: d.wiring.all()})
	n, err := d.kernel.Reset(rs.Services, service, buckets)
	if err != nil {
		d.log.Warn("cannot reset connections: their clients learn it from the new owner", "service", service, "error", err)
	}
	if n > 0 {
		d.log.Info("connections reset", "service", service, "connections", n)
	}
}

// look counts flows once and ends the drains that are over.
func (d *drainer) look(memory drains) drains {
	d.cut()
	st, released := d.store.State(), d.released()
	rs := desired(st, d.node, knowledge{interfaces: d.wiring.all()})
	if !anyDrain(rs) {
		d.expect(st, nil)
		return drains{}
	}
	flows, err := d.kernel.Flows(rs.Services)
	if err != nil {
		d.log.Warn("cannot count flows: drains end at their limit only", "error", err)
		flows = nil
	}
	now, due := time.Now(), d.due()
	next := drains{}
	for _, s := range rs.Services {
		v := st.Services[s.Name]
		next[s.Name] = map[hashmode.Bucket]draining{}
		for b := range s.Drain.All() {
			if v.Map[b].Since > released {
				continue // not released yet
			}
			e := memory[s.Name][b].look(now, released, v.Map[b].Since, flows != nil && over(flows[s.Name][b], rs.Hold))
			next[s.Name][b] = e
			if e.empty >= 2 || now.Sub(e.started) >= v.Drain {
				d.endings.add(v, b, e.seen, due)
			}
		}
	}
	d.expect(st, next)
	return next
}

// look returns the memory after one more look.
func (e draining) look(now time.Time, released, since uint64, empty bool) draining {
	if e.started.IsZero() || e.since != since {
		e = draining{since: since, started: now, seen: released}
	}
	switch {
	case !empty:
		e.empty, e.seen = 0, released
	case e.empty == 0:
		e.empty, e.seen = 1, released
	default:
		e.empty++
	}
	return e
}

// finish tells the leader of drains that are over, once nothing of theirs can
// be under way any more, and they are due. It returns when the next one is.
func (d *drainer) finish(ctx context.Context) (next time.Time) {
	if closing := d.endings.at(endClosed); len(closing) > 0 {
		if err := d.kernel.Barrier(); err != nil {
			d.log.Error("cannot tell that drains are over: tried again", "error", err)
			return time.Time{}
		}
		d.endings.raise(closing, endClosed, endBehind)
	}
	st := d.store.State()
	behind := d.endings.at(endBehind)
	for service, ended := range behind {
		if d.resets(st, service) {
			d.reset(st, service, ended)
		}
	}
	d.endings.raise(behind, endBehind, endReset)
	all, next := d.endings.toTell(time.Now())
	for service, ended := range all {
		for seen, buckets := range d.endings.bySeen(service, ended) {
			if d.report(ctx, service, buckets, seen) {
				d.endings.raise(map[string]hashmode.Set{service: buckets}, endReset, endTold)
			}
		}
	}
	return next
}

// report tells the leader, and whether it could. What was not told is told
// again at the next look, at the latest.
func (d *drainer) report(ctx context.Context, service string, ended hashmode.Set, seen uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, drainPoll)
	defer cancel()
	err := d.propose(ctx, raftstore.Command{EndDrain: &raftstore.EndDrain{
		Node: d.node, Service: service, Buckets: ended.String(), Seen: seen,
	}})
	if err != nil {
		d.log.Debug("end of drain not committed", "service", service, "error", err)
	}
	return err == nil
}

// over reports that no flow is left that a draining bucket keeps. Where packets
// cannot be held, protocols without a SYN are cut over at once (rule P19):
// their flows hold up nothing.
func over(n nft.FlowCount, holds bool) bool {
	return n.Active+n.Closing == 0 && (!holds || n.Other == 0)
}

func anyDrain(rs nft.Ruleset) bool {
	for _, s := range rs.Services {
		if !s.Drain.Empty() {
			return true
		}
	}
	return false
}
