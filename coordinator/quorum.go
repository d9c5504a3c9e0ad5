package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// ErrNoQuorum is returned when too few voters confirm the leader.
var ErrNoQuorum = errors.New("no majority of voters confirms the leader")

// quorum asks the voters whether this node still leads. hashicorp/raft's own
// VerifyLeader will not do: it counts answers that were under way already,
// and so has said yes to leaders long after another was elected (rule P2).
type quorum struct {
	node   string
	store  Store
	peers  Peers
	timing Timing
	nonce  atomic.Uint64

	mu   sync.Mutex
	next *round // gathers requests until it is sent
}

// round is one question to all voters, shared by all who waited for it.
type round struct {
	term uint64
	done chan struct{}
	err  error
}

// confirm returns nil once a majority of voters, asked after this call, knew
// of no term above ours.
func (q *quorum) confirm(ctx context.Context, term uint64) error {
	q.mu.Lock()
	r := q.next
	if r == nil || r.term != term {
		r = &round{term: term, done: make(chan struct{})}
		q.next = r
		time.AfterFunc(q.timing.Gather, func() { q.send(r) })
	}
	q.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrNoQuorum, ctx.Err())
	}
}

// send closes the round to further requests and asks.
func (q *quorum) send(r *round) {
	q.mu.Lock()
	if q.next == r {
		q.next = nil
	}
	q.mu.Unlock()
	r.err = q.ask(r.term)
	close(r.done)
}

// ask probes all voters by the latest configuration, and returns as soon as
// enough have answered. The other answers are read all the same: giving up a
// call would cost its connection.
func (q *quorum) ask(term uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), q.timing.Lease/2)
	p := probe{Term: term, Nonce: q.nonce.Add(1), Leader: q.node}
	var asking sync.WaitGroup
	voters := 0
	servers := q.store.Servers()
	answers := make(chan error, len(servers))
	for _, s := range servers {
		if s.Voter {
			voters++
			asking.Go(func() { answers <- q.askOne(ctx, s.ID, s.Addr, p) })
		}
	}
	go func() {
		asking.Wait()
		cancel()
	}()
	yes, last := 0, error(nil)
	for range voters {
		if err := <-answers; err != nil {
			last = err
			continue
		}
		if yes++; yes > voters/2 {
			return nil
		}
	}
	return fmt.Errorf("%w: %d of %d: %w", ErrNoQuorum, yes, voters, last)
}

// askOne probes one voter, which may be this node.
func (q *quorum) askOne(ctx context.Context, id, addr string, p probe) error {
	if id == q.store.ServerID() {
		_, err := answerProbe(q.store, p)
		return err
	}
	var a probeAnswer
	if err := q.peers.Call(ctx, addr, pathProbe, p, &a); err != nil {
		return err
	}
	if a.Term > p.Term || a.Nonce != p.Nonce {
		return fmt.Errorf("probe of term %d: voter answers for term %d", p.Term, a.Term)
	}
	return nil
}

// answerProbe is a voter's answer: it refuses a term below its own.
func answerProbe(store Store, p probe) (probeAnswer, error) {
	if term := store.Term(); term > p.Term {
		return probeAnswer{}, fmt.Errorf("probe of term %d: %w: the term is %d", p.Term, ErrNotLeader, term)
	}
	return probeAnswer{Term: p.Term, Nonce: p.Nonce}, nil
}

// lead is a leader that this node has heard of as a voter.
type lead struct {
	term  uint64
	node  string
	since time.Time // when this node first heard it in the term
}

// hearsay remembers the newest leader that probed this node.
type hearsay struct {
	mu   sync.Mutex
	last lead
}

// hear notes a probe.
func (h *hearsay) hear(p probe, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.Term > h.last.term {
		h.last = lead{term: p.Term, node: p.Leader, since: now}
	}
}

// nobody reports that this process has heard of no leader yet.
func (h *hearsay) nobody() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last.term == 0
}

// former returns the node whose lease a leader elected now, in the term, need
// not wait for as long as for others, or "". It led the term just before, and
// was heard to for so long that a lease from before its own election, which
// was not as short, is over when its short ones are (rule P6).
func (h *hearsay) former(term uint64, now time.Time, timing Timing) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	long := timing.patience(timing.Lease) - timing.patienceForLeader()
	if h.last.term+1 != term || now.Sub(h.last.since) < long {
		return ""
	}
	return h.last.node
}
