package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"earshot/coordinator"
	"earshot/e2e/lab"
	"earshot/e2e/load"
	"earshot/hashmode"
)

const (
	buckets = 1024
	sources = 1000 // addresses that the client asks from
	rate    = 300  // new connections per second
	held    = 60   // connections that stay open
	// heldEvery is the time between two requests on one of those.
	heldEvery = 250 * time.Millisecond
	// patience is when the client gives a request up.
	patience = 4 * time.Second
	// formLimit is the time for three agents to become a cluster.
	formLimit = 12 * time.Second
)

// shared is the address of the service.
var shared = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, 56, 20}), 80)

// cast is everything that takes part.
type cast struct {
	*lab.Lab
	servers map[string]*load.Server
	leader  string
	away    *lab.Node // is taken out and brought back
	victim  *lab.Node // loses power: the leader, the hardest case
	desk    *lab.Node // where commands are typed

	first *coordinator.Client // of the first node's agent

	// What the client does: connections for one request each, and ones that
	// stay open.
	fresh, kept *load.Run
}

// newCast builds the lab and starts the servers and agents.
func newCast(ctx context.Context, bin string) (*cast, error) {
	l, err := lab.New(lab.Options{
		Nodes: 3, Clients: 1, Bin: bin,
		Services: map[string]lab.Service{"web": {
			Address: shared.Addr().String() + "/24", Interface: "eth1", Hash: "sourceip",
			Ports: []string{"tcp/80"}, Buckets: buckets, Drain: lab.Duration(time.Minute),
		}},
	})
	if err != nil {
		return nil, err
	}
	c := &cast{Lab: l, servers: map[string]*load.Server{}, first: coordinator.NewClient(l.Nodes[0].Path("sock"))}
	if err := c.form(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%w%s", err, c.logs()), c.close())
	}
	return c, nil
}

// form starts everything and waits until the three share the buckets.
func (c *cast) form(ctx context.Context) error {
	for _, n := range c.Nodes {
		if err := c.serve(n); err != nil {
			return err
		}
	}
	if err := c.StartAll(); err != nil {
		return err
	}
	if err := lab.Poll(ctx, formLimit, func() error { return c.formed(ctx) }); err != nil {
		return fmt.Errorf("wait for the cluster: %w", err)
	}
	return nil
}

// serve starts a node's web server.
func (c *cast) serve(n *lab.Node) error {
	s, err := load.Serve(n.Namespace, load.Service{Name: n.Name, HTTP: []string{":80"}})
	if err != nil {
		return err
	}
	c.servers[n.Name] = s
	return nil
}

// formed returns nil when each node owns a third of the buckets, and gives out
// the parts.
func (c *cast) formed(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	s, err := c.first.Status(ctx)
	if err != nil {
		return err
	}
	if len(s.Nodes) != len(c.Nodes) || len(s.Services) != 1 || !s.Cluster.Quorum {
		return fmt.Errorf("%d nodes of %d", len(s.Nodes), len(c.Nodes))
	}
	for _, n := range s.Services[0].Nodes {
		own, err := hashmode.ParseSet(n.Own, buckets)
		if err != nil {
			return err
		}
		if own.Len() < buckets/len(c.Nodes) || n.Waiting != "" {
			return fmt.Errorf("%s owns %d buckets", n.Name, own.Len())
		}
	}
	c.leader = s.Cluster.Leader
	c.victim = c.Node(c.leader)
	if c.victim == nil {
		return fmt.Errorf("no node is called %q", c.leader)
	}
	others := slices.DeleteFunc(slices.Clone(c.Nodes), func(n *lab.Node) bool { return n == c.victim })
	c.desk, c.away = others[0], others[1]
	return nil
}

// ask starts the client.
func (c *cast) ask() error {
	client := c.Clients[0]
	var err error
	c.fresh, err = load.Start(client.Namespace, load.Plan{
		Kind: load.HTTP, Target: shared, Sources: client.SourceList(sources), Rate: rate, Timeout: patience,
	})
	if err != nil {
		return err
	}
	c.kept, err = load.Start(client.Namespace, load.Plan{
		Kind: load.Hold, Target: shared, Sources: client.SourceList(held), Rate: rate, Interval: heldEvery, Timeout: patience,
	})
	return err
}

// earshot runs a command on a node as its operator would.
func (c *cast) earshot(n *lab.Node, args ...string) error {
	r, err := n.Run(args...)
	if err != nil {
		return err
	}
	if r.Code != 0 {
		return fmt.Errorf("earshot %s: exit status %d: %s", strings.Join(args, " "), r.Code, strings.TrimSpace(r.Stderr))
	}
	return nil
}

// cutPower ends a node without a last word: the wire first, so that no process
// that dies can say goodbye, and what its kernel held is gone.
func (c *cast) cutPower(n *lab.Node) error {
	if err := n.Port.Unplug(); err != nil {
		return err
	}
	if err := errors.Join(n.Kill(), c.servers[n.Name].Close()); err != nil {
		return err
	}
	return c.earshot(n, "flush")
}

// restorePower boots a node.
func (c *cast) restorePower(n *lab.Node) error {
	if err := n.Port.Replug(); err != nil {
		return err
	}
	return errors.Join(c.serve(n), n.Start())
}

// logs are the last lines of every agent, for when something went wrong.
func (c *cast) logs() string {
	var b strings.Builder
	for _, n := range c.Nodes {
		lines := strings.Split(strings.TrimSpace(n.Log()), "\n")
		fmt.Fprintf(&b, "\n  last words of the agent of %s:", n.Name)
		for _, line := range lines[max(0, len(lines)-6):] {
			fmt.Fprintf(&b, "\n    %s", line)
		}
	}
	return b.String()
}

// close removes everything.
func (c *cast) close() error { return c.Close() }
