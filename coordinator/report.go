package coordinator

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"earshot/hashmode"
	"earshot/nft"
	"earshot/raftstore"
)

// status asks the leader, who knows best; without one, this node tells what
// it knows itself.
func (c *Coordinator) status(ctx context.Context) Status {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	if lead := c.store.Leadership(); lead.Self {
		return c.leaderStatus(ctx)
	} else if lead.Addr != "" {
		var s Status
		ask, cancel := context.WithTimeout(ctx, max(2*c.cfg.Timing.Lease, time.Second))
		defer cancel()
		if err := c.peers.Call(ask, lead.Addr, pathStatus, struct{}{}, &s); err == nil {
			s.Cluster.Node = c.cfg.Node
			return s
		}
	}
	own := account{left: c.tenant.left(time.Now()), version: c.cfg.Version, problems: c.problems()}
	s := c.report(map[string]account{c.cfg.Node: own}, nil)
	s.Warnings = append([]string{"no leader can be reached from here: this is what " + c.cfg.Node + " knows by itself"}, s.Warnings...)
	return s
}

// leaderStatus is the cluster as its leader sees it.
func (c *Coordinator) leaderStatus(ctx context.Context) Status {
	accounts := c.leader.ledger.accounts(time.Now())
	s := c.report(accounts, c.allFlows(ctx, accounts))
	s.Cluster.Leader = c.cfg.Node
	confirm, cancel := context.WithTimeout(ctx, c.cfg.Timing.Lease)
	defer cancel()
	s.Cluster.Quorum = c.leader.quorum.confirm(confirm, c.store.Leadership().Term) == nil
	if !s.Cluster.Quorum {
		s.Warnings = append([]string{"no quorum: no majority of the voters answers, so nothing can be changed"}, s.Warnings...)
	}
	return s
}

// report puts the status together.
func (c *Coordinator) report(accounts map[string]account, flows map[string]map[string]flowsOf) Status {
	st := c.store.State()
	s := Status{
		Cluster:  ClusterStatus{Epoch: st.Epoch, Node: c.cfg.Node, LeaseMS: c.cfg.Timing.Lease.Milliseconds()},
		Nodes:    []NodeStatus{},
		Services: []ServiceStatus{},
		Warnings: []string{},
	}
	voters := map[string]bool{}
	for _, server := range c.store.Servers() {
		voters[server.ID] = server.Voter
	}
	for _, name := range st.NodeNames() {
		s.Nodes = append(s.Nodes, nodeStatus(st, name, accounts[name], voters[st.Nodes[name].ServerID]))
	}
	known := c.news.all()
	for _, name := range st.ServiceNames() {
		s.Services = append(s.Services, serviceStatus(st, name, known, flows))
	}
	now := time.Now()
	s.tellHolds(now, st, c.leader.ledger.holds(now, st), c.leader.ledger.queues())
	s.Warnings = append(s.Warnings, warnings(s)...)
	return s
}

func nodeStatus(st *raftstore.State, name string, a account, voter bool) NodeStatus {
	n := st.Nodes[name]
	s := NodeStatus{
		Name: name, Listen: n.Listen, State: nodeState(st, n), Alive: a.left > 0, Weight: n.Weight,
		LeaseMS: a.left.Milliseconds(), Voter: voter, Role: RoleNode, Restarting: n.Rest > 0,
		Version: a.version, Problems: a.problems,
	}
	if n.Witness { // it has a lease, to show that it lives, and answers nothing
		s.Role, s.LeaseMS = RoleWitness, 0
	}
	return s
}

// nodeState is the node's state in the contract's words.
func nodeState(st *raftstore.State, n raftstore.Node) string {
	switch {
	case n.Failed:
		return StateFailed
	case !n.Out:
		return StateIn
	}
	for _, v := range st.Services {
		for _, slot := range v.Map {
			if slot.Owner == n.Name || slices.Contains(slot.From, n.Name) {
				return StateDraining
			}
		}
	}
	return StateOut
}

func serviceStatus(st *raftstore.State, name string, l levels, flows map[string]map[string]flowsOf) ServiceStatus {
	v := st.Services[name]
	s := ServiceStatus{
		Name: name, Address: v.Address.Addr().String(), MAC: v.MAC, Hash: string(v.Hash), Prefix: v.Prefix,
		Buckets: len(v.Map), Seed: v.Seed, Ports: append([]string{}, v.Ports...), Nodes: []ShareStatus{},
		Refuses: st.Refuses(name),
	}
	cast := rolesOfAll(v.Map, l)
	for _, node := range st.NodeNames() {
		sets := cast[node]
		mine := sets[own].Union(sets[inherit]).Union(sets[waiting])
		pinned := hashmode.Set{}
		for b := range mine.All() {
			if v.Map[b].Pin == node {
				pinned.Add(b)
			}
		}
		f := flows[node][name]
		s.Nodes = append(s.Nodes, ShareStatus{
			Name: node, Own: mine.String(), Inherit: sets[inherit].String(), Waiting: sets[waiting].String(),
			Drain: sets[drain].String(), Pinned: pinned.String(), Unfit: st.Nodes[node].Unfit[name], Flows: f.Active,
			Closing: f.Closing, OldestMS: f.Oldest.Milliseconds(), DrainLeftMS: f.DrainLeft.Milliseconds(),
		})
	}
	s.Ownerless = ownerless(st, name).String()
	return s
}

// ownerless are the buckets of a service that no node answers for.
func ownerless(st *raftstore.State, service string) hashmode.Set {
	set := hashmode.Set{}
	for b, slot := range st.Services[service].Map {
		if n, ok := st.Nodes[slot.Owner]; !ok || n.Failed {
			set.Add(hashmode.Bucket(b))
		}
	}
	return set
}

// flows counts this node's own flows, or tells what it counted a moment ago.
func (c *Coordinator) flows() (flowsAnswer, error) {
	counts, err := c.counted.flows(c.kernel, c.services())
	if err != nil {
		return flowsAnswer{}, fmt.Errorf("count flows: %w", err)
	}
	now, left := time.Now(), c.drainer.left(time.Now())
	answer := flowsAnswer{Services: map[string]flowsOf{}}
	for service, buckets := range counts {
		f := flowsOf{DrainLeft: left[service]}
		for _, n := range buckets {
			f.Active += n.Active + n.Other
			f.Closing += n.Closing
			if !n.Oldest.IsZero() {
				f.Oldest = max(f.Oldest, now.Sub(n.Oldest))
			}
		}
		answer.Services[service] = f
	}
	return answer, nil
}

// counted is the last count of a node's flows. It is told to whoever asks until
// another may be made: operators' programs may ask all the time, each of which
// has all nodes count.
type counted struct {
	turn   chan struct{} // holds one value, of whoever counts
	until  time.Time
	counts map[string]map[hashmode.Bucket]nft.FlowCount
}

func newCounted() *counted { return &counted{turn: make(chan struct{}, 1)} }

// flows counts, unless the last count is still good. Those who ask at the same
// time are told the same.
func (c *counted) flows(k Kernel, services []nft.Service) (map[string]map[hashmode.Bucket]nft.FlowCount, error) {
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	began := time.Now()
	if began.Before(c.until) {
		return c.counts, nil
	}
	counts, err := k.Flows(services)
	if err != nil {
		return nil, err
	}
	c.counts, c.until = counts, time.Now().Add(restAfter(time.Since(began)))
	return counts, nil
}

// allFlows asks every node with a lease for its flows; who does not answer in
// time is left out.
func (c *Coordinator) allFlows(ctx context.Context, accounts map[string]account) map[string]map[string]flowsOf {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	st := c.store.State()
	var mu sync.Mutex
	all := map[string]map[string]flowsOf{}
	var asking sync.WaitGroup
	for _, node := range slices.Sorted(maps.Keys(accounts)) {
		if accounts[node].left == 0 {
			continue
		}
		asking.Go(func() {
			var a flowsAnswer
			var err error
			if node == c.cfg.Node {
				a, err = c.flows()
			} else {
				err = c.peers.Call(ctx, st.Nodes[node].Listen, pathFlows, struct{}{}, &a)
			}
			if err != nil {
				c.log.Debug("flows unknown", "node", node, "error", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			all[node] = a.Services
		})
	}
	asking.Wait()
	return all
}
