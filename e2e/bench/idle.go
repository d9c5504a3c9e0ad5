package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"earshot/e2e/lab"
	"earshot/hashmode"
)

const (
	// idleSpan is how long idle agents are watched. The kernel counts in ticks
	// of 10 ms: that is 0.05 % of it.
	idleSpan = 25 * time.Second
	// calm is how long the cluster is left alone before.
	calm = 3 * time.Second
)

func idlePart() part {
	return part{
		name: "idle",
		doc:  "memory and processor time of an agent without traffic",
		run:  measureIdle,
	}
}

func measureIdle(ctx context.Context, r *rig) (t table, err error) {
	c, err := r.cluster(hashmode.SourceIP, 0)
	if err != nil {
		return table{}, err
	}
	defer c.closeWith(&err)
	leader, err := c.form(ctx)
	if err != nil {
		return table{}, err
	}
	if err := pass(ctx, calm); err != nil {
		return table{}, err
	}
	before, err := c.usage()
	if err != nil {
		return table{}, err
	}
	if err := pass(ctx, idleSpan); err != nil {
		return table{}, err
	}
	after, err := c.usage()
	if err != nil {
		return table{}, err
	}
	s, err := c.agents[c.Nodes[0].Name].Status(ctx)
	if err != nil {
		return table{}, err
	}
	if s.Cluster.Leader != leader {
		return table{}, errors.New("the leader changed while nothing happened")
	}
	return idleTable(c.Nodes, leader, before, after), nil
}

// pass waits: this part measures what happens in a time.
func pass(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// idleTable compares two looks at the agents.
func idleTable(list []*lab.Node, leader string, before, after []usage) table {
	t := table{
		Columns: []column{
			{Name: "RSS", Unit: "MiB", digits: 1}, {Name: "PSS", Unit: "MiB", digits: 1},
			{Name: "CPU", Unit: "% of a core", digits: 2}, {Name: "threads"},
		},
		Notes: []string{
			fmt.Sprintf("%d nodes, one service of %d buckets, lease %v; processor time over %v.", nodes, buckets, lease, idleSpan),
			"PSS counts the program's pages once for the agents that share them here; a machine of its own sees RSS.",
		},
	}
	for i, n := range list {
		name := "follower " + n.Name
		if n.Name == leader {
			name = "leader " + n.Name
		}
		busy := after[i].cpu - before[i].cpu
		t.Rows = append(t.Rows, row{Name: name, Values: []figure{
			mebibytes(after[i].rss), mebibytes(after[i].pss),
			figure(100 * busy.Seconds() / after[i].at.Sub(before[i].at).Seconds()), figure(after[i].threads),
		}})
	}
	return t
}

func mebibytes(b uint64) figure { return figure(float64(b) / (1 << 20)) }

// usage looks at all agents.
func (c *cluster) usage() ([]usage, error) {
	var all []usage
	for _, n := range c.Nodes {
		u, err := usageOf(n.Agent().Pid())
		if err != nil {
			return nil, fmt.Errorf("agent of %s: %w", n.Name, err)
		}
		all = append(all, u)
	}
	return all, nil
}
