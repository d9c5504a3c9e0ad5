package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	own    *hearsay // of this node as a voter
	timing Timing
	nonce  atomic.Uint64

	mu     sync.Mutex
	next   *round // gathers requests until it is sent
	voters []string
	since  time.Time // the voters were seen to be these
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
		time.AfterFunc(q.gather(), func() { q.send(r) })
	}
	q.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrNoQuorum, ctx.Err())
	}
}

// gather is for how long requests collect: a node with a shorter lease than this
// one's has the less time for an answer.
func (q *quorum) gather() time.Duration {
	return min(q.timing.Gather, q.timing.shortest(q.store.State())/gatherings)
}

// send closes the round to further requests and asks.
func (q *quorum) send(r *round) {
	q.mu.Lock()
	if q.next == r {
		q.next = nil
	}
	q.mu.Unlock()
	r.err = q.ask(probe{Term: r.term}, func(probeAnswer) error { return nil })
	close(r.done)
}

// lastAnswer asks when a majority last answered a leader before the term, and
// returns a time after which no lease was asked for (rule P6). Majorities of
// voters that have changed since need not have one in common.
func (q *quorum) lastAnswer(term uint64) (last time.Time, err error) {
	err = q.ask(probe{Term: term, Before: true}, func(a probeAnswer) error {
		if a.Before == nil {
			return errNotSaid
		}
		last = latest(last, time.Now().Add(-*a.Before))
		return nil
	})
	return latest(last, q.votersSince()), err
}

// votersSince is when the voters were last changed, for all that this node
// knows, or later. Who asks often learns of it soon.
func (q *quorum) votersSince() time.Time {
	var now []string
	for _, s := range q.store.Servers() {
		if s.Voter {
			now = append(now, s.ID)
		}
	}
	slices.Sort(now)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.since.IsZero() || !slices.Equal(now, q.voters) {
		q.voters, q.since = now, time.Now()
	}
	return q.since
}

// errNotSaid is a voter's that was not of the term yet, or runs an older version.
var errNotSaid = errors.New("the voter does not say when it last answered another leader")

// ask probes all voters by the latest configuration, has their answers taken,
// and returns as soon as those of a majority are. The others are read all the
// same: giving up a call would cost its connection.
func (q *quorum) ask(p probe, take func(probeAnswer) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), q.timing.Lease/2)
	p.Nonce, p.Leader = q.nonce.Add(1), q.node
	var asking sync.WaitGroup
	voters := 0
	servers := q.store.Servers()
	type result struct {
		probeAnswer
		err error
	}
	results := make(chan result, len(servers))
	for _, s := range servers {
		if s.Voter {
			voters++
			asking.Go(func() {
				a, err := q.askOne(ctx, s.ID, s.Addr, p)
				results <- result{a, err}
			})
		}
	}
	go func() {
		asking.Wait()
		cancel()
	}()
	yes, last := 0, error(nil)
	for range voters {
		r := <-results
		if r.err == nil {
			r.err = take(r.probeAnswer)
		}
		if r.err != nil {
			last = r.err
			continue
		}
		if yes++; yes > voters/2 {
			return nil
		}
	}
	return fmt.Errorf("%w: %d of %d: %w", ErrNoQuorum, yes, voters, last)
}

// askOne probes one voter, which may be this node.
func (q *quorum) askOne(ctx context.Context, id, addr string, p probe) (probeAnswer, error) {
	p.Voter = id
	if id == q.store.ServerID() {
		return q.own.answer(q.store, p)
	}
	var a probeAnswer
	if err := q.peers.Call(ctx, addr, pathProbe, p, &a); err != nil {
		return a, err
	}
	if a.Term > p.Term || a.Nonce != p.Nonce {
		return a, fmt.Errorf("probe of term %d: voter answers for term %d", p.Term, a.Term)
	}
	return a, nil
}
