package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"earshot/e2e/lab"
	"earshot/hashmode"
)

const (
	// scaleLease is longer than the default: what grows with the nodes is work
	// for the leader, and here all nodes share one machine's processors.
	scaleLease = 2 * time.Second
	// scaleSpan is how long the agents are watched at rest.
	scaleSpan = 15 * time.Second
	// scaleLook is the time between two looks at a cluster that forms.
	scaleLook = time.Second
	// scaleLimit is the time for one size to form, or to get over a death.
	scaleLimit = 2 * time.Minute
)

// scaleSizes are the numbers of nodes. The largest is what the design is for.
func scaleSizes() []int { return []int{3, 16, 64} }

// scaleShared is an address that no node of the largest lab has.
var scaleShared = netip.AddrFrom4([4]byte{192, 168, 56, 200})

func scalePart() part {
	return part{
		name:  "scale",
		doc:   "what more nodes cost, and the death of one of them",
		run:   measureScale,
		limit: func(options) time.Duration { return time.Duration(len(scaleSizes())) * (2*scaleLimit + scaleSpan) },
	}
}

func measureScale(ctx context.Context, r *rig) (table, error) {
	t := table{
		Columns: []column{
			{Name: "formed", Unit: "s", digits: 1},
			{Name: "RSS median", Unit: "MiB", digits: 1}, {Name: "RSS max", Unit: "MiB", digits: 1}, {Name: "PSS median", Unit: "MiB", digits: 1}, {Name: "PSS max", Unit: "MiB", digits: 1},
			{Name: "leader CPU", Unit: "% of a core", digits: 1}, {Name: "median CPU", Unit: "% of a core", digits: 1}, {Name: "all CPU", Unit: "% of a core", digits: 0},
			{Name: "death", Unit: "leases", digits: 2},
		},
		Notes: []string{
			fmt.Sprintf("One service of %d buckets, lease %v; all agents on this machine, its data in memory. Processor time over %v at rest.", buckets, scaleLease, scaleSpan),
			"Formed: from the start of all agents until each owns its share. Death: from kill -9 of a node that does not lead until the map gives its share to the others.",
			"PSS counts the program's pages once for the agents that share them here; a machine of its own sees RSS.",
		},
	}
	for _, n := range scaleSizes() {
		row, err := r.scaleTo(ctx, n)
		if err != nil {
			return table{}, fmt.Errorf("%d nodes: %w", n, err)
		}
		t.Rows = append(t.Rows, row)
		fmt.Fprintf(r.log, "bench: %s: %v\n", row.Name, row.Values)
	}
	return t, nil
}

// scaleTo measures one size.
func (r *rig) scaleTo(ctx context.Context, size int) (line row, err error) {
	c, err := r.clusterIn(lab.Options{
		Nodes: size, Lease: scaleLease,
		Services: map[string]lab.Service{service: {
			Address: scaleShared.String() + "/24", Interface: "eth1", Hash: string(hashmode.SourceIP), Buckets: buckets,
		}},
	})
	if err != nil {
		return line, err
	}
	defer c.closeWith(&err)
	// The others join those who have formed, as in a site that grows. All of
	// them at once would greet each other, and the kernel of this one machine
	// has a table of 1,024 neighbours for all of its namespaces.
	founders := c.Nodes[0].Config.Peers[:min(size, nodes)]
	for _, n := range c.Nodes {
		n.Config.Peers = founders
	}
	began := time.Now()
	if err := c.StartAll(); err != nil {
		return line, err
	}
	asked := c.Nodes[0]
	var leader string
	if err := lab.Poll(ctx, scaleLimit, func() error {
		// A status asks every node for its flows: on two cores that is work.
		if err := pass(ctx, scaleLook); err != nil {
			return err
		}
		s, err := c.agents[asked.Name].Status(ctx)
		if err != nil {
			return err
		}
		leader = s.Cluster.Leader
		return c.shared(s, nil)
	}); err != nil {
		return line, fmt.Errorf("wait for the cluster: %w", err)
	}
	formed := time.Since(began)
	if err := pass(ctx, calm); err != nil {
		return line, err
	}
	before, err := c.usage()
	if err != nil {
		return line, err
	}
	if err := pass(ctx, scaleSpan); err != nil {
		return line, err
	}
	after, err := c.usage()
	if err != nil {
		return line, err
	}
	death, err := c.killOne(ctx, asked, leader)
	if err != nil {
		return line, err
	}
	line = scaleRow(c.Nodes, leader, before, after)
	line.Values = slices.Insert(line.Values, 0, figure(formed.Seconds()))
	line.Values = append(line.Values, figure(float64(death)/float64(scaleLease)))
	return line, nil
}

// killOne kills a node that neither leads nor is asked, and returns the time
// until the others have its share.
func (c *cluster) killOne(ctx context.Context, asked *lab.Node, leader string) (time.Duration, error) {
	i := slices.IndexFunc(c.Nodes, func(n *lab.Node) bool { return n != asked && n.Name != leader })
	victim := c.Nodes[i]
	began := time.Now()
	if err := victim.Kill(); err != nil {
		return 0, err
	}
	err := lab.Poll(ctx, scaleLimit, func() error {
		s, err := c.agents[asked.Name].Status(ctx)
		if err != nil {
			return err
		}
		return c.shared(s, victim)
	})
	if err != nil {
		return 0, fmt.Errorf("wait for the others to have the share of %s: %w", victim.Name, err)
	}
	return time.Since(began), nil
}

// scaleRow is what the agents took between two looks.
func scaleRow(all []*lab.Node, leader string, before, after []usage) row {
	var rss, pss, cpu []float64
	var lead, sum float64
	for i, n := range all {
		rss, pss = append(rss, float64(mebibytes(after[i].rss))), append(pss, float64(mebibytes(after[i].pss)))
		share := 100 * (after[i].cpu - before[i].cpu).Seconds() / after[i].at.Sub(before[i].at).Seconds()
		cpu, sum = append(cpu, share), sum+share
		if n.Name == leader {
			lead = share
		}
	}
	return row{Name: fmt.Sprintf("%d nodes", len(all)), Values: []figure{
		figure(median(rss)), figure(slices.Max(rss)), figure(median(pss)), figure(slices.Max(pss)), figure(lead), figure(median(cpu)), figure(sum),
	}}
}
