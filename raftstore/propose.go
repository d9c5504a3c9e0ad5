package raftstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// The outcomes of a proposal that was not carried out, or perhaps not.
var (
	// ErrNotLeader: this node does not lead; nothing was done.
	ErrNotLeader = errors.New("this node is not the leader")
	// ErrUnknown: the command may have been carried out, or may yet be.
	ErrUnknown = errors.New("outcome unknown")
)

// endWait bounds the wait for the answers of proposals when the store ends. A
// leader that has lost its followers gives up much sooner.
const endWait = 2 * time.Second

// spreadTime is how long Raft may take to begin a barrier. One that is too
// late is of no use.
const spreadTime = time.Second

// Propose has the cluster carry out a command and returns the index of its log
// entry once this node, the leader, has applied it. Why the command changed
// nothing comes back as Apply says it. ErrUnknown means that the outcome is
// open; with any other error nothing was done and nothing will be.
func (s *Store) Propose(ctx context.Context, c Command) (uint64, error) {
	if err := s.readable(c); err != nil {
		return 0, fmt.Errorf("propose: %w", err)
	}
	data, err := c.Encode()
	if err != nil {
		return 0, fmt.Errorf("propose: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("propose: %w", err)
	}
	// A Tick is told to nobody, unless it commits what is: whoever leads anew
	// finds entries in its log that wait for one of its own term.
	told := c.Tick == nil || s.State().Index < s.LastCommand()
	var future raft.ApplyFuture
	err = s.ask(ctx, func(r *raft.Raft) error {
		future = r.Apply(data, enqueueTime(ctx))
		return future.Error()
	})
	if err != nil {
		return 0, fmt.Errorf("propose: %w", err)
	}
	if told {
		s.spread()
	}
	applied, _ := future.Response().(error)
	return future.Index(), applied
}

// spread brings the news of a commit to the followers at once: they learn of
// it with the next entry, or with the message that follows after CommitTimeout.
// A barrier is an entry that no state machine sees.
func (s *Store) spread() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.engine == nil {
		return
	}
	e := s.engine
	s.proposals.Go(func() { _ = e.raft.Barrier(spreadTime).Error() })
}

// enqueueTime is how long Raft may take to begin, by the context's deadline;
// zero is for ever.
func enqueueTime(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return max(time.Until(deadline), time.Millisecond)
}

// ask puts a question to the leader's Raft and waits for the answer or the end
// of the context. Raft's futures cannot be given up, so a goroutine stays
// behind with one until Raft answers it: at the latest, when it stops leading.
func (s *Store) ask(ctx context.Context, question func(*raft.Raft) error) error {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return fmt.Errorf("%w: %w", ErrNotLeader, errEnded)
	}
	e := s.engine
	if e == nil || e.raft.State() != raft.Leader {
		s.mu.Unlock()
		return ErrNotLeader
	}
	s.proposals.Add(1)
	s.mu.Unlock()
	answer := make(chan error, 1)
	go func() {
		defer s.proposals.Done()
		answer <- question(e.raft)
	}()
	select {
	case err := <-answer:
		return outcome(err)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnknown, context.Cause(ctx))
	}
}

// outcome says what an error of Raft's means for the proposer.
func outcome(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return fmt.Errorf("wait for raft: %w", context.DeadlineExceeded)
	}
	// Leadership lost, a disk that failed, a shutdown: the entry may be in
	// the log of some node, and with it in the next leader's.
	return fmt.Errorf("%w: %w", ErrUnknown, err)
}

// endProposals lets no other question begin and waits for the answers, since
// Raft leaves some futures without one when it is shut down.
func (s *Store) endProposals() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.proposals.Wait()
		close(done)
	}()
	timer := time.NewTimer(endWait)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// ErrNotHandedOver: nobody else leads though this node has offered it.
var ErrNotHandedOver = errors.New("this node still leads")

// Transfer hands the leadership to another voter, if this node has it, and
// returns when it has it no more. Raft takes no longer than a lease.
//
// It goes by the effect and not by Raft's answer: a Raft that ends before its
// main goroutine has seen the question never gives one.
func (s *Store) Transfer(ctx context.Context) error {
	changed, cancel := s.Changed()
	defer cancel()
	r := s.raft()
	if r == nil || r.State() != raft.Leader {
		return nil
	}
	term := r.CurrentTerm()
	r.LeadershipTransfer()
	limit := time.NewTimer(s.options.Lease)
	defer limit.Stop()
	for s.raft() == r && r.State() == raft.Leader && r.CurrentTerm() == term {
		select {
		case <-changed:
		case <-limit.C:
			return fmt.Errorf("hand over leadership: %w", ErrNotHandedOver)
		case <-ctx.Done():
			return fmt.Errorf("hand over leadership: %w: %w", ErrNotHandedOver, context.Cause(ctx))
		}
	}
	return nil
}

// Resign has Raft say nothing to anybody any more. A leader whose disk hangs
// sends heartbeats still, even while it ends, and as long as it does nobody
// else is elected (rule P10). After it the store can only be ended.
func (s *Store) Resign() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine != nil {
		s.engine.transport.mute.Store(true)
	}
}
