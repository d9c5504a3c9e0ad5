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
	all = append(all, leaseProblems(c.store.State(), c.cfg.Node, c.cfg.Timing.Lease)...)
	if c.cfg.Witness {
		return all // services are nothing to it
	}
	if use := c.conntrack.Load(); use != nil && use.NearlyFull() {
		all = append(all, fmt.Sprintf("conntrack knows %d flows of %d at most: soon new ones are dropped; `sysctl -w net.netfilter.nf_conntrack_max=%d` makes room", use.Count, use.Max, 2*uint64(use.Max)))
	}
	all = append(all, preferProblems(c.store.State(), *c.prefer.Load())...)
	return append(all, configProblems(c.store.State(), c.file.services())...)
}

// leaseProblems names dead members for whose sake the length of the node's lease
// is not in the state: they could not read it when they come back. Each leader
// takes it for its own length then. Living ones of older versions are on their
// way to a newer one.
func leaseProblems(st *raftstore.State, node string, lease time.Duration) []string {
	if n, known := st.Nodes[node]; !known || n.Lease > 0 {
		return nil
	}
	var all []string
	tell := raftstore.Command{Profile: &raftstore.Profile{Node: node, Lease: lease}}
	for _, name := range st.NodeNames() {
		n := st.Nodes[name]
		alone := raftstore.State{Nodes: map[string]raftstore.Node{name: n}}
		if n.Failed && alone.Readable(tell) != nil {
			all = append(all, fmt.Sprintf("the cluster cannot keep the length of this node's lease because of %s, which has failed and has an older version: do not change `lease` on any node before it runs a newer one, or `earshot forget %s`", name, name))
		}
	}
	return all
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
