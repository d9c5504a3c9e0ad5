package coordinator

import (
	"fmt"
	"sync"
	"time"
)

// hearsay is this node as a voter: it answers leaders' probes, and remembers
// for the next leader when it last answered one before.
type hearsay struct {
	node string // this one

	mu     sync.Mutex
	last   lead // the newest leader that it has answered
	older  lead // the one before, of an earlier term
	others bool // another node than this one has led
}

// lead is a leader that this node has answered. What the process before this
// one has answered is not known: at first, it is nobody, when this one began.
type lead struct {
	term     uint64
	node     string
	answered time.Time // for the last time
}

func newHearsay(node string, began time.Time) hearsay {
	return hearsay{node: node, last: lead{answered: began}, older: lead{answered: began}}
}

// former is the node that led before the term, as far as this one has heard, or
// "".
func (h *hearsay) former(term uint64) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last.term < term {
		return h.last.node
	}
	return h.older.node
}

// nobody reports that this process has heard of no leader yet but itself.
func (h *hearsay) nobody() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.others
}

// answer is a voter's answer to a probe. It refuses what is meant for another
// server, terms below its own and below one that it has answered, and all while
// its term is not known: its Raft does not run. The term is read under the lock
// under which the answer is noted, so that what is said of the terms before is
// never followed by an answer to one of them.
func (h *hearsay) answer(store Store, p probe) (probeAnswer, error) {
	if id := store.ServerID(); p.Voter != "" && p.Voter != id {
		return probeAnswer{}, fmt.Errorf("probe of %s: %w: this is %s", p.Voter, ErrStranger, id)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	term := store.Term()
	if term == 0 {
		return probeAnswer{}, fmt.Errorf("probe of term %d: %w", p.Term, ErrNotReady)
	}
	if highest := max(term, h.last.term); highest > p.Term {
		return probeAnswer{}, fmt.Errorf("probe of term %d: %w: the term is %d", p.Term, ErrNotLeader, highest)
	}
	now := time.Now()
	if p.Term > h.last.term {
		h.older, h.last = h.last, lead{term: p.Term, node: p.Leader}
	}
	h.last.answered, h.others = now, h.others || p.Leader != h.node
	a := probeAnswer{Term: p.Term, Nonce: p.Nonce}
	// A term that is not on this node's disk yet would be forgotten in a
	// restart, and older ones would be answered again.
	if p.Before && term == p.Term {
		age := now.Sub(h.older.answered)
		a.Before = &age
	}
	return a, nil
}
