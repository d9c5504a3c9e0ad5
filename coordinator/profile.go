package coordinator

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"earshot/raftstore"
)

// profile is what a node's own configuration makes of it now. Nodes tell it
// with each renewal.
type profile struct {
	// Weight is nil while the node cannot tell.
	Weight *int `json:"weight,omitempty"`
	// Prefer has, by service, the buckets that the node would rather have.
	Prefer map[string]string `json:"prefer,omitempty"`
}

// profile is this node's own.
func (c *Coordinator) profile() *profile {
	return &profile{Weight: c.scale.weight.Load(), Prefer: *c.prefer.Load()}
}

// prefers says which buckets this node would rather have from now on.
func (c *Coordinator) prefers(prefer map[string]string) {
	if before := c.prefer.Swap(&prefer); before == nil || !maps.Equal(*before, prefer) {
		c.tenant.renewNow()
	}
}

// of is the profile as the state is to have it. What the node leaves open
// stays.
func (p profile) of(n raftstore.Node) raftstore.Profile {
	entry := raftstore.Profile{Node: n.Name, ServerID: n.ServerID, Weight: n.Weight, Prefer: p.Prefer}
	if p.Weight != nil {
		entry.Weight = *p.Weight
	}
	return entry
}

// differs reports that the state has it otherwise.
func differs(p raftstore.Profile, n raftstore.Node) bool {
	return p.Weight != n.Weight || !maps.Equal(p.Prefer, n.Prefer) || p.Lease > 0 && p.Lease != n.Lease
}

// profiles lists, by name, what nodes with a lease say of themselves that the
// state does not have.
func (l *ledger) profiles(now time.Time, st *raftstore.State) []raftstore.Profile {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []raftstore.Profile
	for name, t := range l.tenants {
		n, known := st.Nodes[name]
		if !known || n.ServerID != t.serverID || t.profile == nil || !now.Before(t.until) {
			continue
		}
		p := t.profile.of(n)
		if t.lease > n.Lease || !t.resting { // a restart may find a longer one in the kernel
			p.Lease = t.lease
		}
		if differs(p, n) {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b raftstore.Profile) int { return strings.Compare(a.Node, b.Node) })
	return all
}

// enroll enters what nodes say of themselves.
func (l *leader) enroll(ctx context.Context, now time.Time) {
	for _, p := range l.ledger.profiles(now, l.store.State()) {
		// With an older member it cannot be committed: a join tells it then.
		err := l.commit(ctx, raftstore.Command{Profile: &p})
		if errors.Is(err, raftstore.ErrOldMember) {
			p.Lease = 0
			if differs(p, l.store.State().Nodes[p.Node]) {
				err = l.commit(ctx, raftstore.Command{Profile: &p})
			}
		}
		if err == nil {
			l.log.Info("node has another weight, preference or lease", "node", p.Node, "weight", p.Weight, "prefer", p.Prefer, "lease", p.Lease)
		}
	}
}
