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

	mu   sync.Mutex
	term uint64 // the newest that it has answered
	// answered is when it last answered a leader, older when it last answered
	// one of an earlier term than that. What the process before this one has
	// answered is not known: at first, both are when this one began.
	answered, older time.Time
	others          bool // another node than this one has led
}

func newHearsay(node string, began time.Time) hearsay {
	return hearsay{node: node, answered: began, older: began}
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
	if highest := max(term, h.term); highest > p.Term {
		return probeAnswer{}, fmt.Errorf("probe of term %d: %w: the term is %d", p.Term, ErrNotLeader, highest)
	}
	if p.Term > h.term {
		h.term, h.older = p.Term, h.answered
	}
	now := time.Now()
	h.answered, h.others = now, h.others || p.Leader != h.node
	a := probeAnswer{Term: p.Term, Nonce: p.Nonce}
	// A term that is not on this node's disk yet would be forgotten in a
	// restart, and older ones would be answered again.
	if p.Before && term == p.Term {
		age := now.Sub(h.older)
		a.Before = &age
	}
	return a, nil
}
