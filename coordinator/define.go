package coordinator

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"time"

	"earshot/raftstore"
)

// defineServices proposes what this node's config has and the cluster has
// not. What the cluster has differently is a problem that the status shows.
func (c *Coordinator) defineServices(ctx context.Context) error {
	changed, cancel := c.store.Changed()
	defer cancel()
	tries := tries{}
	for {
		st := c.store.State()
		if _, member := st.Nodes[c.cfg.Node]; member {
			for _, group := range byAddress(c.cfg.Services, func(d raftstore.Definition) bool {
				_, known := st.Services[d.Name]
				return !known && !st.Removed[d.Name] && tries.due(d.Name, time.Now())
			}) {
				c.proposeServices(ctx, group, tries)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed: // once in two leases, at the least
		}
	}
}

// proposeServices proposes new services of one address: all of them at once, so that none
// takes packets from another, or one by one, if the cluster refuses some.
func (c *Coordinator) proposeServices(ctx context.Context, group []raftstore.Definition, tries tries) {
	if len(group) > 1 {
		all := raftstore.Redefine{Fresh: true}
		for _, d := range group {
			all.Changes = append(all.Changes, raftstore.Redefinition{Service: d.Name, Definition: &d, Seed: newSeed()})
		}
		err := c.executeWithin(ctx, raftstore.Command{Redefine: &all})
		if err == nil {
			return
		}
		if again(err) { // nobody has refused anything
			for _, d := range group {
				c.notTaken(d, err, tries)
			}
			return
		}
	}
	for _, d := range group {
		err := c.executeWithin(ctx, raftstore.Command{Define: &raftstore.Define{Definition: d, Seed: newSeed()}})
		if err != nil {
			c.notTaken(d, err, tries)
		}
	}
}

// notTaken notes that the cluster has not taken a service, and tells the reason.
func (c *Coordinator) notTaken(d raftstore.Definition, err error, tries tries) {
	if tries.failed(d.Name, err, time.Now()) {
		c.log.Error("the cluster does not take a service of this node's config", "service", d.Name, "error", err)
	}
}

// byAddress groups those of the definitions that are wanted, in their order.
func byAddress(all []raftstore.Definition, wanted func(raftstore.Definition) bool) [][]raftstore.Definition {
	var groups [][]raftstore.Definition
	group := map[netip.Addr]int{}
	for _, d := range all {
		if !wanted(d) {
			continue
		}
		i, known := group[d.Address.Addr()]
		if !known {
			i = len(groups)
			groups, group[d.Address.Addr()] = append(groups, nil), i
		}
		groups[i] = append(groups[i], d)
	}
	return groups
}

// tries are the services that the cluster has not taken, by name. They are tried
// again, ever more rarely: a clash may be mended, a node be back, a leader found.
type tries map[string]try

type try struct {
	next time.Time
	wait time.Duration
	why  string // it was not taken the last time
	said bool
}

// The wait after a first try, and the longest.
const firstRetry, longestRetry = time.Second, time.Minute

// due reports whether a service is to be proposed.
func (t tries) due(service string, now time.Time) bool { return !now.Before(t[service].next) }

// failed notes a try, and reports whether its reason is to be told: it has come
// twice, so that it is none of the moment. All nodes propose a new service at
// once, and one of them is first.
func (t tries) failed(service string, err error, now time.Time) bool {
	last := t[service]
	next := try{wait: min(max(2*last.wait, firstRetry), longestRetry), why: err.Error()}
	next.next = now.Add(next.wait)
	tell := next.why == last.why && !last.said
	next.said = next.why == last.why && (last.said || tell)
	t[service] = next
	return tell
}

// besideOthers is the command by which a new service comes to an address that has
// others. Ports that no service names are answered, too, by the first of the
// address: what is new takes packets from it, and so needs a handoff, as every
// change of services does. The leader decides that: the log then means the same
// to every version of this program.
func besideOthers(st *raftstore.State, cmd raftstore.Command) raftstore.Command {
	if cmd.Define == nil {
		return cmd
	}
	d := cmd.Define.Definition
	if _, known := st.Services[d.Name]; known || st.Removed[d.Name] || !served(st, d.Address.Addr()) {
		return cmd
	}
	return raftstore.Command{Redefine: &raftstore.Redefine{Changes: []raftstore.Redefinition{
		{Service: d.Name, Definition: &d, Seed: cmd.Define.Seed},
	}}}
}

// served reports whether there is a service of the address.
func served(st *raftstore.State, addr netip.Addr) bool {
	for _, v := range st.Services {
		if v.Address.Addr() == addr {
			return true
		}
	}
	return false
}

// comesBack reports whether a command brings a service to an address that has
// none, in a cluster from which services were removed: one of the address may have
// been among them, and the state does not tell who answered for it.
func comesBack(st *raftstore.State, cmd raftstore.Command) bool {
	if len(st.Removed) == 0 {
		return false
	}
	if cmd.Define != nil {
		return !served(st, cmd.Define.Definition.Address.Addr())
	}
	if cmd.Redefine != nil {
		for _, change := range cmd.Redefine.Changes {
			if change.Was == nil && change.Definition != nil && !served(st, change.Definition.Address.Addr()) {
				return true
			}
		}
	}
	return false
}

// removed is a service of a change that the cluster has removed; whoever proposed
// it as Fresh may not have known that yet.
func removed(st *raftstore.State, c raftstore.Redefine) string {
	for _, change := range c.Changes {
		if st.Removed[change.Service] {
			return change.Service
		}
	}
	return ""
}

// redefinable makes of a command that brings services what can be committed: by
// the state that it is applied to, as far as a leader can know it.
func (c *Coordinator) redefinable(ctx context.Context, cmd raftstore.Command) (raftstore.Command, error) {
	if cmd.Define == nil && cmd.Redefine == nil {
		return cmd, nil
	}
	if lead := c.store.Leadership(); lead.Self && !c.leader.ledger.readyIn(lead.Term) {
		return cmd, ErrNotLeader // it may not have applied yet what is committed
	}
	if st := c.store.State(); comesBack(st, cmd) {
		if err := c.heldByAll(ctx, st); err != nil {
			return cmd, err
		}
	}
	st := c.store.State()
	if cmd.Redefine != nil && cmd.Redefine.Fresh {
		if service := removed(st, *cmd.Redefine); service != "" {
			return cmd, fmt.Errorf("%w: %s", raftstore.ErrRemoved, service)
		}
		cmd.Redefine = &raftstore.Redefine{Changes: cmd.Redefine.Changes}
	}
	return besideOthers(st, cmd), nil
}

// errRemembers: a node may answer by what was removed still.
var errRemembers = errors.New("a node may still answer for a service that was removed")

// longestAwait is how long a command waits for the nodes, at the most: an
// operator's has commandTimeout.
const longestAwait = 2 * time.Second

// heldByAll waits until every living node's kernel holds a map as new as the
// state. One that does not for two leases may answer by what was removed long
// since, under a restart lease or because its agent is stopped.
func (c *Coordinator) heldByAll(ctx context.Context, st *raftstore.State) error {
	limit := time.Now().Add(min(2*c.cfg.Timing.Lease, longestAwait))
	for {
		node := behind(c.store.State(), c.news.all(), st.Index)
		if node == "" {
			return nil
		}
		err := fmt.Errorf("%w: %s", errRemembers, node)
		if time.Now().After(limit) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(c.cfg.Timing.Gather):
		}
	}
}

// behind is a living node whose kernel is not known to hold the map of the index.
func behind(st *raftstore.State, held levels, index uint64) string {
	for _, name := range st.NodeNames() {
		if n := st.Nodes[name]; !n.Failed && !n.Witness && held[name].Held < index {
			return name
		}
	}
	return ""
}

// newSeed returns a random seed. Zero is none: to nftables it means that the
// kernel should choose, and every kernel would choose another.
func newSeed() uint32 { return 1 + rand.Uint32N(math.MaxUint32) }
