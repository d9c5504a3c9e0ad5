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

const (
	buckets = 64 // per service: few, so that most questions meet each move
	web     = "web"
	echo    = "echo"

	// askLimit is for one question to an agent.
	askLimit = 2 * time.Second
	// askEvery is the time between two questions to all agents: asking costs them.
	askEvery = 25 * time.Millisecond
	// wholeLimit is for the cluster to be whole again. It is generous: the
	// judges say what is too late.
	wholeLimit = 40 * time.Second
)

// shared is the address of both services.
var shared = netip.AddrFrom4([4]byte{192, 168, 56, 20})

// services are TCP and UDP, side by side on one address.
func services() map[string]lab.Service {
	all := map[string]lab.Service{}
	for name, port := range map[string]string{web: "tcp/80", echo: "udp/7000"} {
		all[name] = lab.Service{
			Address: shared.String() + "/24", Interface: "eth1", Hash: string(hashmode.SourceIPSourcePort),
			Ports: []string{port}, Buckets: buckets, Drain: lab.Duration(time.Minute),
		}
	}
	return all
}

// field is the cluster under attack, with a segment of its own for the agents.
type field struct {
	*lab.Lab
	servers map[string]*load.Server
	agents  map[string]*coordinator.Client
	away    map[string]bool // nodes that were told to be out
}

// newField builds the lab with servers; no agent runs yet. Close it.
func newField(o options) (*field, error) {
	l, err := lab.New(lab.Options{
		Nodes: o.nodes, Clients: 1, Apart: true, Bin: o.bin, Dir: o.dir, Lease: o.lease, Services: services(),
	})
	if err != nil {
		return nil, err
	}
	f := &field{Lab: l, servers: map[string]*load.Server{}, agents: map[string]*coordinator.Client{}, away: map[string]bool{}}
	for _, n := range l.Nodes {
		n.Config.Mature = "0s" // every node is to be under attack all the time
		f.agents[n.Name] = coordinator.NewClient(n.Path("sock"))
		if err := errors.Join(smallDisk(n), f.serve(n)); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
}

// Close ends everything.
func (f *field) Close() error {
	var errs []error
	for _, n := range f.Nodes {
		errs = append(errs, detachDisk(n))
	}
	return errors.Join(append(errs, f.Lab.Close())...)
}

// serve starts a node's servers.
func (f *field) serve(n *lab.Node) error {
	s, err := load.Serve(n.Namespace, load.Service{Name: n.Name, HTTP: []string{":80"}, UDP: []string{":7000"}})
	f.servers[n.Name] = s
	return err
}

// status asks one node's agent.
func (f *field) status(ctx context.Context, node string) (coordinator.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	return f.agents[node].Status(ctx)
}

// leader is the node that leads.
func (f *field) leader(ctx context.Context) (*lab.Node, error) {
	var n *lab.Node
	err := lab.Poll(ctx, wholeLimit, func() error {
		for name := range f.agents {
			if s, err := f.status(ctx, name); err == nil && f.Node(s.Cluster.Leader) != nil {
				n = f.Node(s.Cluster.Leader)
				return nil
			}
		}
		return errors.New("no leader")
	})
	return n, err
}

// awaitWhole waits until all nodes tell that every bucket has an owner which
// answers. A cluster that is not whole in time is a failure.
func (f *field) awaitWhole(ctx context.Context) error {
	var asked time.Time
	var last error
	err := lab.Poll(ctx, wholeLimit, func() error {
		if time.Since(asked) >= askEvery {
			last = f.agree(ctx)
			asked = time.Now()
		}
		return last
	})
	if err != nil {
		return fmt.Errorf("wait until the cluster is whole: %w", err)
	}
	return nil
}

// agree returns nil when all nodes tell of the same whole cluster.
func (f *field) agree(ctx context.Context) error {
	var first uint64
	for i, n := range f.Nodes {
		s, err := f.status(ctx, n.Name)
		if err == nil {
			err = f.whole(s)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
		if i == 0 {
			first = s.Cluster.Epoch
		}
		if s.Cluster.Epoch != first {
			return fmt.Errorf("%s tells epoch %d, not %d", n.Name, s.Cluster.Epoch, first)
		}
	}
	return nil
}

// whole returns nil when a status tells of a whole cluster.
func (f *field) whole(s coordinator.Status) error {
	if s.Cluster.Leader == "" || !s.Cluster.Quorum || len(s.Nodes) != len(f.Nodes) || len(s.Services) != len(services()) {
		return fmt.Errorf("leader %q, quorum %v, %d nodes, %d services", s.Cluster.Leader, s.Cluster.Quorum, len(s.Nodes), len(s.Services))
	}
	for _, n := range s.Nodes {
		out := n.State == coordinator.StateOut || n.State == coordinator.StateDraining
		if !n.Alive || n.State == coordinator.StateFailed || out != f.away[n.Name] {
			return fmt.Errorf("node %s: alive %v, %s", n.Name, n.Alive, n.State)
		}
	}
	for _, v := range s.Services {
		if err := f.answered(v); err != nil {
			return fmt.Errorf("service %s: %w", v.Name, err)
		}
	}
	return nil
}

// answered returns nil when every bucket has an owner, and every node a share.
func (f *field) answered(v coordinator.ServiceStatus) error {
	total := 0
	for _, n := range v.Nodes {
		own, err := hashmode.ParseSet(n.Own, v.Buckets)
		if err != nil {
			return err
		}
		if n.Waiting != "" || (own.Len() == 0) != f.away[n.Name] {
			return fmt.Errorf("%s owns %q and waits for %q", n.Name, n.Own, n.Waiting)
		}
		total += own.Len()
	}
	if total != v.Buckets {
		return fmt.Errorf("%d buckets of %d are owned", total, v.Buckets)
	}
	return nil
}
