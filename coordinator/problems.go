package coordinator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"earshot/raftstore"
)

// conntrackEvery is the time between two looks at how full conntrack is.
const conntrackEvery = 5 * time.Second

// watchConntrack looks how full the table of flows is until ctx ends: apart
// from those who tell it, since a renewal of the lease must not wait for a
// table that is just being listed.
func (c *Coordinator) watchConntrack(ctx context.Context) error {
	ticker := time.NewTicker(conntrackEvery)
	defer ticker.Stop()
	for {
		// An unreadable table is none of the node's troubles: flows go on.
		if use, err := c.kernel.Conntrack(); err == nil {
			c.conntrack.Store(&use)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// problems lists what is wrong with this node, for the status.
func (c *Coordinator) problems() []string {
	var all []string
	if p := c.reconciler.problem.Load(); p != nil {
		all = append(all, *p)
	}
	unfit, _ := c.fitness.unfit()
	for _, service := range slices.Sorted(maps.Keys(unfit)) {
		all = append(all, fmt.Sprintf("cannot serve %s: %s", service, unfit[service]))
	}
	for _, s := range c.kernel.Strangers() {
		all = append(all, fmt.Sprintf("the host with MAC %s on %s has %s: take the address from it, or choose another", s.MAC, s.Interface, s.Address))
	}
	all = append(all, c.scale.problems()...)
	if err := c.store.Halted(); err != nil {
		all = append(all, err.Error())
	}
	if err := c.asker.trouble(); err != nil {
		all = append(all, err.Error())
	}
	all = append(all, c.file.problems()...)
	if c.cfg.Witness {
		return all // services are nothing to it
	}
	if use := c.conntrack.Load(); use != nil && use.NearlyFull() {
		all = append(all, fmt.Sprintf("conntrack knows %d flows of %d at most: soon new ones are dropped; `sysctl -w net.netfilter.nf_conntrack_max=%d` makes room", use.Count, use.Max, 2*uint64(use.Max)))
	}
	all = append(all, preferProblems(c.store.State(), *c.prefer.Load())...)
	return append(all, configProblems(c.store.State(), c.file.services())...)
}

// configProblems lists where a node's config and the cluster disagree. The
// cluster's definition is the one that is served.
func configProblems(st *raftstore.State, services []raftstore.Definition) []string {
	var all []string
	mine := map[string]bool{}
	for _, d := range services {
		mine[d.Name] = true
		v, ok := st.Services[d.Name]
		switch diffs := v.Differences(d); {
		case st.Removed[d.Name]:
			all = append(all, fmt.Sprintf("service %s of this node's config was removed from the cluster; take it out, or bring it back with `earshot apply`", d.Name))
		case !ok:
			all = append(all, fmt.Sprintf("service %s of this node's config is not defined in the cluster; `earshot apply` defines it", d.Name))
		case len(diffs) > 0:
			all = append(all, fmt.Sprintf("service %s: the cluster has %s as in this node's config; mend the file, or change the cluster with `earshot apply`",
				d.Name, strings.Join(diffs, "; ")))
		}
	}
	for _, name := range st.ServiceNames() {
		if !mine[name] {
			all = append(all, fmt.Sprintf("service %s is not in this node's config; add it, or remove it from the cluster with `earshot apply --prune`", name))
		}
	}
	return all
}
