package raftstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/raft"
)

// The reasons for which a node cannot be a member.
var (
	// ErrNameTaken: another living node has the name.
	ErrNameTaken = errors.New("a node of this name is already in the cluster")
	// ErrReplaced: a node with another data directory has taken over the name.
	ErrReplaced = errors.New("node was replaced by another of its name")
	// ErrAddressTaken: another node has the address of the peer port.
	ErrAddressTaken = errors.New("address belongs to another node")
	// ErrForgotten: the cluster has taken the node, or its data, out for good.
	ErrForgotten = errors.New("the cluster has forgotten this node's data directory")
)

// mostVoters is how many servers vote. More would make commits slower and the
// cluster no safer.
const mostVoters = 5

// request is a node's wish to be a member.
type request struct {
	Join
	// Resumed says that the cluster has known the node with this server id
	// before.
	Resumed bool `json:"resumed,omitempty"`
}

// admission is what the leader has to do for a request.
type admission struct {
	ask     bool     // ask Hooks.Admit
	remove  []string // ids of servers that the node replaces
	add     bool     // add it to the Raft servers, or correct its address
	vote    bool     // with a vote
	propose bool     // tell the state machine
}

// admit decides about a request. It is given the state with every committed
// command, and the latest servers.
func admit(state *State, servers []Server, r request) (admission, error) {
	var a admission
	if reads := max(r.Reads, 1); reads < state.format() {
		return a, fmt.Errorf("%w: its state has format %d, %s reads %d", ErrTooOld, state.format(), r.Name, reads)
	}
	old, known := state.Nodes[r.Name]
	switch {
	case !known && r.Resumed:
		return a, fmt.Errorf("%w: %s is no member any more", ErrForgotten, r.Name)
	case known && old.ServerID == "" && r.Resumed:
		return a, fmt.Errorf("%w: it was recovered on another node, without %s", ErrForgotten, r.Name)
	}
	if known && old.ServerID != r.ServerID {
		if r.Resumed {
			return a, fmt.Errorf("%w: %s is now at %s", ErrReplaced, r.Name, old.Listen)
		}
		a.ask = true
		if old.ServerID != "" {
			a.remove = append(a.remove, old.ServerID)
		}
	}
	owner := map[string]string{} // server ids of the known nodes
	for _, name := range slices.Sorted(maps.Keys(state.Nodes)) {
		n := state.Nodes[name]
		owner[n.ServerID] = name
		switch {
		case name == r.Name:
		case n.ServerID == r.ServerID:
			return a, fmt.Errorf("%w: %s, not %s", ErrOtherNode, name, r.Name)
		case n.Listen == r.Listen:
			return a, fmt.Errorf("%w: %s is that of %s", ErrAddressTaken, r.Listen, name)
		}
	}
	a.add, a.vote = true, mayVote(state, servers, a.remove)
	for _, s := range servers {
		switch {
		case s.ID == r.ServerID:
			a.add, a.vote = s.Addr != r.Listen, s.Voter
		case s.Addr == r.Listen && !slices.Contains(a.remove, s.ID) && owner[s.ID] == "":
			// What is left of one that was wiped before it was a member.
			a.remove = append(a.remove, s.ID)
		}
	}
	want := old
	want.Name, want.ServerID, want.Listen, want.Weight = r.Name, r.ServerID, r.Listen, r.Weight
	want.Witness, want.Reads, want.NoQueue, want.Lease = r.Witness, r.Reads, r.NoQueue, r.lease(old)
	a.propose = !known || !want.equal(old)
	return a, nil
}

// mayVote reports whether a newcomer gets a vote at once, when the servers
// without have gone. With a voter dead it does not if the cluster could then do
// nothing without the newcomer, of which little is known: it gets its vote when
// it follows. A server that is no node's yet may be the first of all.
func mayVote(state *State, servers []Server, without []string) bool {
	dead := map[string]bool{}
	for _, n := range state.Nodes {
		dead[n.ServerID] = n.Failed
	}
	voters, living := 0, 0
	for _, s := range servers {
		if !s.Voter || slices.Contains(without, s.ID) {
			continue
		}
		voters++
		if !dead[s.ID] {
			living++
		}
	}
	return voters < mostVoters && (living == voters || living > (voters+1)/2)
}

// receive admits a node, on the leader. It can be repeated.
func (s *Store) receive(ctx context.Context, r request) error {
	select {
	case s.admitting <- struct{}{}:
		defer func() { <-s.admitting }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	// A new leader may not have applied yet what its predecessor committed.
	if err := s.ask(ctx, func(r *raft.Raft) error { return r.Barrier(0).Error() }); err != nil {
		return err
	}
	r, err := s.legible(r)
	if err != nil {
		return err
	}
	a, err := admit(s.State(), s.Servers(), r)
	if err != nil {
		return err
	}
	var joined error
	if a.ask && s.hooks.Admit != nil {
		r.Join.Term = s.Leadership().Term
		settled, err := s.hooks.Admit(ctx, r.Join)
		if err != nil {
			return err
		}
		if s.readable(Command{Join: &r.Join}) != nil {
			r.Join.Term = 0
		}
		defer func() { settled(joined) }()
	}
	if a.add {
		if err := s.callBack(ctx, r); err != nil {
			return err
		}
	}
	for _, id := range a.remove {
		if err := s.RemoveServer(ctx, id); err != nil {
			return err
		}
	}
	if a.add {
		if err := s.AddServer(ctx, Server{ID: r.ServerID, Addr: r.Listen, Voter: a.vote}); err != nil {
			return err
		}
	}
	if a.propose {
		if _, joined = s.Propose(ctx, Command{Join: &r.Join}); joined != nil {
			return joined
		}
		s.log.Info("node joined", "node", r.Name, "listen", r.Listen, "voter", a.vote, "witness", r.Witness)
	}
	return nil
}

// callBack makes sure that the node answers at the address that it gives. A
// voter that cannot be reached would cost a small cluster its quorum.
func (s *Store) callBack(ctx context.Context, r request) error {
	if r.ServerID == s.ServerID() {
		return nil
	}
	h, err := s.greet(ctx, r.Listen)
	if err != nil {
		return fmt.Errorf("reach %s at the address it gives: %w", r.Name, err)
	}
	if h.ServerID != r.ServerID {
		return fmt.Errorf("reach %s at the address it gives: %s is that of another node, %s", r.Name, r.Listen, h.Name)
	}
	return nil
}

// Vote gives a server a vote or takes it away. Only the leader can, and not
// while a node is being admitted.
func (s *Store) Vote(ctx context.Context, server Server, vote bool) error {
	return s.unlessAdmitting(func() error {
		server.Voter = vote
		if vote {
			return s.AddServer(ctx, server)
		}
		err := s.ask(ctx, func(r *raft.Raft) error {
			return r.DemoteVoter(raft.ServerID(server.ID), 0, enqueueTime(ctx)).Error()
		})
		if err != nil {
			return fmt.Errorf("take vote of server %s: %w", server.Addr, err)
		}
		return nil
	})
}

// Expel takes a server that is no node's out of the Raft cluster. Only the
// leader can, and not while a node is being admitted.
func (s *Store) Expel(ctx context.Context, id string) error {
	return s.unlessAdmitting(func() error { return s.RemoveServer(ctx, id) })
}

var errAdmitting = errors.New("a node is being admitted")

// unlessAdmitting runs f while no node is admitted: an admission has counted
// the votes. It does not wait, since an admission may take long.
func (s *Store) unlessAdmitting(f func() error) error {
	select {
	case s.admitting <- struct{}{}:
		defer func() { <-s.admitting }()
		return f()
	default:
		return errAdmitting
	}
}

// AddServer adds a server to the Raft cluster, or gives a known one another
// address. Only the leader can.
func (s *Store) AddServer(ctx context.Context, server Server) error {
	id, address := raft.ServerID(server.ID), raft.ServerAddress(server.Addr)
	err := s.ask(ctx, func(r *raft.Raft) error {
		if server.Voter {
			return r.AddVoter(id, address, 0, enqueueTime(ctx)).Error()
		}
		return r.AddNonvoter(id, address, 0, enqueueTime(ctx)).Error()
	})
	if err != nil {
		return fmt.Errorf("add server %s: %w", server.Addr, err)
	}
	return nil
}

// RemoveServer takes a server out of the Raft cluster. Only the leader can.
func (s *Store) RemoveServer(ctx context.Context, id string) error {
	err := s.ask(ctx, func(r *raft.Raft) error {
		return r.RemoveServer(raft.ServerID(id), 0, enqueueTime(ctx)).Error()
	})
	if err != nil {
		return fmt.Errorf("remove server %s: %w", id, err)
	}
	return nil
}

func serversOf(c raft.Configuration) []Server {
	var servers []Server
	for _, server := range c.Servers {
		servers = append(servers, Server{
			ID:    string(server.ID),
			Addr:  string(server.Address),
			Voter: server.Suffrage == raft.Voter,
		})
	}
	return servers
}
