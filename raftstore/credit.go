package raftstore

import (
	"fmt"
	"maps"
)

// mostLosses is where the count of a node's losses ends: more would not make
// anybody wait longer.
const mostLosses = 8

// Formed says that the first formation of the cluster is over: nodes that come
// from then on prove themselves before they are given buckets. It rests on the
// clock of a leader and so holds in that leader's term alone (rule P7).
type Formed struct {
	Term uint64 `json:"term"`
}

// Credit says what a node has earned by following for long enough: an end of
// its probation, or that a loss is forgotten. It rests on the clock of a
// leader and so holds in that leader's term alone (rule P7).
type Credit struct {
	Node string `json:"node"`
	Term uint64 `json:"term"`
	// Since is the node's Changed: a node that has died and come back since has
	// earned nothing yet.
	Since uint64 `json:"since"`
	Trust bool   `json:"trust,omitempty"`
	// Forgive names services, or "" for the node as a whole.
	Forgive []string `json:"forgive,omitempty"`
}

func (s *State) formed(term uint64, c Formed) (bool, error) {
	if c.Term != term {
		return false, fmt.Errorf("formed: %w (%d, now %d)", ErrTerm, c.Term, term)
	}
	before := s.Formed
	s.Formed = true
	return !before, nil
}

func (s *State) credit(term uint64, c Credit) (bool, error) {
	if c.Term != term {
		return false, fmt.Errorf("credit of %s: %w (%d, now %d)", c.Node, ErrTerm, c.Term, term)
	}
	n, err := s.node(c.Node)
	if err != nil {
		return false, err
	}
	if n.Changed != c.Since {
		return false, fmt.Errorf("credit of %s: %w", c.Node, ErrStale)
	}
	old := n
	n.Held = n.Held && !c.Trust
	for _, what := range c.Forgive {
		n.Losses = counted(n.Losses, what, -1)
	}
	if n.equal(old) {
		return false, nil
	}
	s.Nodes[c.Node] = n
	return true, nil
}

// lost counts a loss of the node, to the cluster ("") or to a service.
func (s *State) lost(n Node, what string) Node {
	if s.Formed && !n.Witness {
		n.Losses = counted(n.Losses, what, 1)
	}
	return n
}

// onProbation has a node that comes prove itself first. Those that form the
// cluster need not.
func (s *State) onProbation(n Node) Node {
	n.Held = s.Formed && !n.Witness
	return n
}

// trusted ends a node's probation and forgets its losses.
func (n Node) trusted() Node {
	n.Held, n.Losses = false, nil
	return n
}

// counted returns the counts with one of them changed by step.
func counted(counts map[string]int, what string, step int) map[string]int {
	counts = maps.Clone(counts)
	if counts == nil {
		counts = map[string]int{}
	}
	counts[what] = min(counts[what]+step, mostLosses)
	if counts[what] <= 0 {
		delete(counts, what)
	}
	if len(counts) == 0 {
		return nil // as a state from a snapshot has it
	}
	return counts
}
