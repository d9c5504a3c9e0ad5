package raftstore

import (
	"fmt"
	"maps"
	"time"
)

// MaxWeight is the largest weight of a node. Zero is a last resort: a node
// that has buckets only while no other can have them.
const MaxWeight = 1000

// Profile says what a node's own configuration makes of it now. It is for
// the data directory that said so: a node that joined anew says it again.
type Profile struct {
	Node     string `json:"node"`
	ServerID string `json:"server_id"`
	Weight   int    `json:"weight"`
	// Prefer has, by service, the buckets that the node would rather have, as
	// hashmode.Set writes them.
	Prefer map[string]string `json:"prefer,omitempty"`
	// Lease is how long the node may answer without hearing from the leader, once
	// its kernel holds no longer one; zero leaves what the state says.
	Lease time.Duration `json:"lease,omitempty"`
}

// profile enters what a node says of itself.
func (s *State) profile(c Profile) (bool, error) {
	n, err := s.node(c.Node)
	if err != nil {
		return false, err
	}
	switch {
	case n.ServerID != c.ServerID:
		return false, fmt.Errorf("profile of %s: %w: it has another data directory now", c.Node, ErrUnknownNode)
	case c.Weight < 0 || c.Weight > MaxWeight:
		return false, fmt.Errorf("profile of %s: %w: weight %d", c.Node, ErrCommand, c.Weight)
	}
	old := n
	n.Weight, n.Prefer = c.Weight, maps.Clone(c.Prefer)
	if c.Lease > 0 {
		n.Lease = c.Lease
	}
	if len(n.Prefer) == 0 {
		n.Prefer = nil // as a state from a snapshot has it
	}
	if n.equal(old) {
		return false, nil
	}
	s.Nodes[c.Node] = n
	return true, nil
}

// SetWeight says what this node asks to be taken for from now on. The leader
// learns it from the coordinator; an older one does not, and is told by a
// join.
func (s *Store) SetWeight(weight int) { s.weight.Store(int64(weight)) }

// ownWeight is what this node asks to be taken for. One that cannot tell yet
// keeps what the cluster knows of it.
func (s *Store) ownWeight() int {
	if weight := s.weight.Load(); weight >= 0 {
		return int(weight)
	}
	if n, known := s.State().Nodes[s.options.Name]; known {
		return n.Weight
	}
	return 1
}
