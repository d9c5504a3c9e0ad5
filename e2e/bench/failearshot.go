package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"earshot/coordinator"
	"earshot/e2e/lab"
	"earshot/e2e/load"
	"earshot/hashmode"
)

// ripeLeases is for how many leases a new agent that comes to lead waits for
// nodes that it has not heard, and a little more.
const ripeLeases = 11

// earshotSite is a cluster of agents that loses power node by node.
type earshotSite struct {
	*cluster
	lease   time.Duration
	servers map[string]*load.Server
	started map[string]time.Time
	turn    int
}

// failEarshot measures at one lease.
func (r *rig) failEarshot(ctx context.Context, lease time.Duration) (kinds []losses, err error) {
	c, err := r.clusterOf(lease, hashmode.SourceIP, 1)
	if err != nil {
		return nil, err
	}
	defer c.closeWith(&err)
	s := &earshotSite{cluster: c, lease: lease, servers: map[string]*load.Server{}, started: map[string]time.Time{}}
	for _, n := range c.Nodes {
		if err := s.restore(n); err != nil {
			return nil, err
		}
	}
	kinds = []losses{
		{name: fmt.Sprintf("Earshot, a node, lease %v", lease), unit: lease, median: 1.2},
		{name: fmt.Sprintf("Earshot, the leader, lease %v", lease), unit: lease, median: 1.5, most: 2},
	}
	return kinds, failOften(ctx, r, s, kinds, func(kind int) bool { return kind == 1 })
}

func (s *earshotSite) client() *lab.Client { return s.Clients[0] }

// victim chooses the leader, or the others in turn.
func (s *earshotSite) victim(ctx context.Context, leader bool) (*lab.Node, []netip.Addr, error) {
	st, err := s.agents[s.Nodes[0].Name].Status(ctx)
	if err != nil {
		return nil, nil, err
	}
	n := s.Node(st.Cluster.Leader)
	if n == nil {
		return nil, nil, fmt.Errorf("no node is called %q", st.Cluster.Leader)
	}
	if !leader {
		for s.turn++; s.Nodes[s.turn%nodes] == n; s.turn++ {
		}
		n = s.Nodes[s.turn%nodes]
	}
	clients, err := clientsOf(s.client(), st.Services[0], n.Name)
	return n, clients, err
}

// clientsOf finds source addresses in different buckets of a node.
func clientsOf(c *lab.Client, v coordinator.ServiceStatus, node string) ([]netip.Addr, error) {
	spec := hashmode.Spec{Mode: hashmode.Mode(v.Hash), Buckets: v.Buckets, Seed: v.Seed}
	owned := map[hashmode.Bucket]bool{}
	for _, n := range v.Nodes {
		if n.Name != node {
			continue
		}
		set, err := hashmode.ParseSet(n.Own, v.Buckets)
		if err != nil {
			return nil, err
		}
		for b := range set.All() {
			owned[b] = true
		}
	}
	var clients []netip.Addr
	for i := 0; len(clients) < probed; i++ {
		if i > 1<<15 {
			return nil, fmt.Errorf("%d clients of %s are too few", len(clients), node)
		}
		source := c.Source(i)
		if b := spec.Bucket(netip.AddrPortFrom(source, 0), 0); owned[b] {
			clients = append(clients, source)
			delete(owned, b)
		}
	}
	return clients, nil
}

func (s *earshotSite) kill(n *lab.Node) error {
	return errors.Join(n.Kill(), s.servers[n.Name].Close())
}

func (s *earshotSite) forget(n *lab.Node) error {
	r, err := n.Run("flush")
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("flush of %s: exit status %d: %s", n.Name, r.Code, r.Stderr)
	}
	return err
}

func (s *earshotSite) restore(n *lab.Node) error {
	server, err := load.Serve(n.Namespace, load.Service{Name: n.Name, HTTP: []string{":80"}})
	if err != nil {
		return err
	}
	s.servers[n.Name], s.started[n.Name] = server, time.Now()
	return n.Start()
}

// settle waits until every node has its share, for all the others to see, and
// is old enough to lead like one that has always been there.
func (s *earshotSite) settle(ctx context.Context) error {
	return lab.Poll(ctx, settleLimit, func() error {
		for _, n := range s.Nodes {
			st, err := s.agents[n.Name].Status(ctx)
			if err != nil {
				return err
			}
			if err := s.even(st); err != nil {
				return fmt.Errorf("%s: %w", n.Name, err)
			}
			if age := time.Since(s.started[n.Name]); age < ripeLeases*s.lease {
				return fmt.Errorf("%s has run for %v only", n.Name, age)
			}
		}
		return nil
	})
}
