package raftstore

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"earshot/hashmode"
)

// CommandVersion is the newest format of commands that this program reads.
// Format 2 brought Forget, and in Join the role and what the node reads; format
// 3 Redefine, the hash mode sourcenet, Profile, Formed, Credit, shares by load, in
// Join kernels without a queue, what a node can answer for that nobody serves, and
// services that are refused then; format 4 leases that differ, the end of one
// certain rest, and the term in which a name is taken over.
const CommandVersion = 4

// ErrOldMember: a member of the cluster could not read the command.
var ErrOldMember = errors.New("a node of the cluster is too old for this")

// ErrTooOld: the cluster has a state that the node could not read.
var ErrTooOld = errors.New("the cluster has moved on to a newer version of earshot")

// format is the oldest format that can say what the command says. A cluster
// of several versions goes on as long as nothing new is asked of it.
func (c Command) format() int {
	switch {
	case c.Join != nil && (c.Join.Lease > 0 || c.Join.Term > 0), c.Profile != nil && c.Profile.Lease > 0:
		return 4
	case c.Rest != nil && c.Rest.For == 0 && c.Rest.By != 0:
		return 4
	case c.Redefine != nil:
		return 3
	case c.Assign != nil && len(c.Assign.Shares) > 0, c.Define != nil && c.Define.Definition.Balance != "":
		return 3
	case c.Define != nil && c.Define.Definition.Fallback != "":
		return 3
	case c.Profile != nil, c.Formed != nil, c.Credit != nil:
		return 3
	case c.Define != nil && c.Define.Definition.Hash == hashmode.SourceNet:
		return 3
	case c.Join != nil && c.Join.NoQueue:
		return 3
	case c.Fitness != nil && len(c.Fitness.Spare) > 0:
		return 3
	case c.Forget != nil:
		return 2
	case c.Join != nil && (c.Join.Witness || c.Join.Reads > 1):
		return 2
	}
	return 1
}

// format is the oldest format that can say what the state says.
func (s *State) format() int {
	for _, n := range s.Nodes {
		if n.Lease > 0 {
			return 4
		}
	}
	if s.format3() {
		return 3
	}
	for _, n := range s.Nodes {
		if n.Witness || n.Reads > 1 {
			return 2
		}
	}
	return 1
}

// format3 reports something in the state that format 2 has no place for.
func (s *State) format3() bool {
	for _, n := range s.Nodes {
		if n.NoQueue || len(n.Spare) > 0 || len(n.Prefer) > 0 || n.Held || len(n.Losses) > 0 {
			return true
		}
	}
	for _, v := range s.Services {
		if v.Hash == hashmode.SourceNet || v.Remapped > 0 || v.Balance != "" || v.Fallback != "" || len(v.Shares) > 0 {
			return true
		}
	}
	return s.Formed || len(s.Removed) > 0
}

// subject is the node that the command itself puts in the place of what the
// state has of it, or takes out: it need not read the command.
func (c Command) subject() string {
	switch {
	case c.Join != nil:
		return c.Join.Name
	case c.Forget != nil:
		return c.Forget.Node
	}
	return ""
}

// readable reports a member that could not read the command. heard says what
// servers have said of themselves that is not in the state yet.
func (s *State) readable(c Command, heard map[string]int) error {
	need := c.format()
	for _, name := range slices.Sorted(maps.Keys(s.Nodes)) {
		n := s.Nodes[name]
		reads := max(n.Reads, heard[n.ServerID], 1)
		if reads < need && name != c.subject() {
			return fmt.Errorf("%w: %s reads commands up to format %d, this one needs %d", ErrOldMember, name, reads, need)
		}
	}
	return nil
}

// Readable reports a member that could not read the command, by what the state
// says of it.
func (s *State) Readable(c Command) error { return s.readable(c, nil) }

// legible returns the join request as the members can read it. A cluster with
// an older member takes a newer node in as one like the others.
func (s *Store) legible(r request) (request, error) {
	s.mu.Lock()
	if s.heard == nil {
		s.heard = map[string]int{}
	}
	s.heard[r.ServerID] = max(r.Reads, 1)
	s.mu.Unlock()
	err := s.readable(Command{Join: &r.Join})
	if err != nil {
		r.Lease = 0
		err = s.readable(Command{Join: &r.Join})
	}
	switch {
	case err == nil:
		return r, nil
	case r.Witness:
		return r, fmt.Errorf("join as a witness: %w", err)
	}
	r.Reads = 0
	return r, nil
}

// readable reports a member that could not read the command.
func (s *Store) readable(c Command) error {
	s.mu.Lock()
	heard := maps.Clone(s.heard)
	s.mu.Unlock()
	return s.State().readable(c, heard)
}
