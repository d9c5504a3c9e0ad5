package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	"earshot/coordinator"
	"earshot/e2e/lab"
	"earshot/hashmode"
)

const (
	nodes     = 3
	buckets   = 1024
	lease     = 300 * time.Millisecond // the contract's default
	formLimit = 20 * time.Second
	service   = "web"
	// clusterMAC is named in the config, for who asks without ARP.
	clusterMAC = "01:00:5e:28:38:14"
)

// shared is the address of the service.
var shared = netip.AddrFrom4([4]byte{192, 168, 56, 20})

// rig is what a part works with.
type rig struct {
	bin string
	dir string    // on a real disk; removed at the end
	log io.Writer // for people, besides the tables
	// runs is how often each thing fails in the failover part.
	runs int
}

// cluster is a lab with the means to ask its agents.
type cluster struct {
	*lab.Lab
	agents map[string]*coordinator.Client
}

// cluster builds a lab of three nodes whose agents do not run yet. Close it.
func (r *rig) cluster(mode hashmode.Mode, clients int, ports ...string) (*cluster, error) {
	return r.clusterOf(lease, mode, clients, ports...)
}

// clusterOf is the same with another lease.
func (r *rig) clusterOf(lease time.Duration, mode hashmode.Mode, clients int, ports ...string) (*cluster, error) {
	return r.clusterIn(lab.Options{
		Nodes: nodes, Clients: clients, Dir: r.dir, Lease: lease,
		Services: map[string]lab.Service{service: {
			Address: shared.String() + "/24", Interface: "eth1", Hash: string(mode),
			Ports: ports, Buckets: buckets, MAC: clusterMAC,
		}},
	})
}

// clusterIn is the same in any lab.
func (r *rig) clusterIn(o lab.Options) (*cluster, error) {
	o.Bin = r.bin
	l, err := lab.New(o)
	if err != nil {
		return nil, err
	}
	c := &cluster{Lab: l, agents: map[string]*coordinator.Client{}}
	for _, n := range l.Nodes {
		n.Config.Mature = "0s" // the trials kill one node after another
		c.agents[n.Name] = coordinator.NewClient(n.Path("sock"))
	}
	return c, nil
}

// closeWith closes the cluster and adds to err what goes wrong; with an error,
// the agents' last words, too.
func (c *cluster) closeWith(err *error) {
	if *err != nil {
		for _, n := range c.Nodes {
			lines := strings.Split(strings.TrimSpace(n.Log()), "\n")
			*err = fmt.Errorf("%w\n  agent of %s: %s", *err, n.Name, strings.Join(lines[max(0, len(lines)-3):], "\n    "))
		}
	}
	*err = errors.Join(*err, c.Close())
}

// form starts all agents and waits until each owns its share; it returns the
// leader's name.
func (c *cluster) form(ctx context.Context) (string, error) {
	if err := c.StartAll(); err != nil {
		return "", err
	}
	var leader string
	err := lab.Poll(ctx, formLimit, func() error {
		s, err := c.agents[c.Nodes[0].Name].Status(ctx)
		if err != nil {
			return err
		}
		leader = s.Cluster.Leader
		return c.even(s)
	})
	if err != nil {
		err = fmt.Errorf("wait for the cluster: %w", err)
	}
	return leader, err
}

// even demands that every node owns its share, and nothing moves or drains.
func (c *cluster) even(s coordinator.Status) error {
	if err := c.shared(s, nil); err != nil {
		return err
	}
	for _, n := range s.Services[0].Nodes {
		if n.Drain != "" {
			return fmt.Errorf("%s drains %s", n.Name, n.Drain)
		}
	}
	return nil
}

// shared demands that every node owns an even share but one, which owns none;
// nothing moves.
func (c *cluster) shared(s coordinator.Status, but *lab.Node) error {
	if len(s.Services) != 1 || len(s.Services[0].Nodes) != len(c.Nodes) || s.Cluster.Leader == "" {
		return errors.New("not all nodes are there")
	}
	for _, n := range s.Services[0].Nodes {
		own, err := hashmode.ParseSet(n.Own, buckets)
		if err != nil {
			return err
		}
		gone := but != nil && n.Name == but.Name
		if gone != own.Empty() || !gone && own.Len() < buckets/len(c.Nodes) || n.Waiting != "" {
			return fmt.Errorf("%s owns %d buckets, and waits for %q", n.Name, own.Len(), n.Waiting)
		}
	}
	return nil
}

// version is what the program says of itself.
func (r *rig) version(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, r.bin, "version").Output()
	if err != nil {
		return "earshot (" + err.Error() + ")"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}
