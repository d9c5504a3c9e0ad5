package raftstore

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// snapshotEvery entries make a snapshot, and as many are kept before it
	// for followers that lag.
	snapshotEvery    = 1024
	snapshotInterval = 30 * time.Second
	// logCache is how many entries are kept in memory for followers.
	logCache = 128
)

// engine is a running Raft and what belongs to it.
type engine struct {
	raft      *raft.Raft
	transport *transport
	forward   sync.WaitGroup
}

// raftConfig derives Raft's times from the lease.
func raftConfig(o Options, id string) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(id)
	c.HeartbeatTimeout = o.Lease / 4
	c.ElectionTimeout = o.Lease / 4
	c.LeaderLeaseTimeout = o.Lease / 4
	c.CommitTimeout = commitTime(o.Lease)
	c.SnapshotThreshold = snapshotEvery
	c.SnapshotInterval = snapshotInterval
	c.TrailingLogs = snapshotEvery
	c.ShutdownOnRemove = false // keep notices, and ends the store
	c.NoLegacyTelemetry = true
	c.Logger = &raftLog{log: o.Log}
	return c
}

// commitTime is how far followers may lag a commit that nothing spread to them
// (see spread): it is what repairs a lost message. At rest a leader sends every
// follower a message that often: see DESIGN.md for its price.
func commitTime(lease time.Duration) time.Duration {
	return lease / 12
}

// startRaft starts Raft on what the disk holds, unless it runs or the store
// has ended.
func (s *Store) startRaft() error {
	s.mu.Lock()
	running := s.engine != nil || s.ended
	s.mu.Unlock()
	if running {
		return nil
	}
	s.state.Store(NewState()) // Raft replays what the disk holds
	e := &engine{transport: s.transport()}
	e.forward.Go(e.transport.forward)
	if err := s.launch(e); err != nil {
		e.stop(s.port)
		return fmt.Errorf("start raft: %w", err)
	}
	s.mu.Lock()
	s.engine = e
	ended := s.ended
	s.mu.Unlock()
	if ended {
		s.stopRaft()
	}
	return nil
}

// launch makes the Raft of an engine. Raft panics over a disk that fails it.
func (s *Store) launch(e *engine) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	logs, err := raft.NewLogCache(logCache, s.logs)
	if err != nil {
		return err
	}
	r, err := raft.NewRaft(raftConfig(s.options, s.ServerID()), fsm{s}, logs, s.stable, s.disk.snaps, e.transport)
	if halted := s.Halted(); err != nil && halted != nil {
		return halted
	}
	if err != nil {
		return err
	}
	e.raft = r
	s.stable.running.Store(true)
	r.RegisterObserver(raft.NewObserver(nil, false, func(o *raft.Observation) bool {
		s.observe(e, r, o.Data)
		return false
	}))
	if role := r.State(); role == raft.Leader {
		s.observe(e, r, role) // the observer was too late for it
	}
	e.transport.raft.Store(r)
	return nil
}

// observe is called by Raft's goroutines in the middle of what they tell of.
func (s *Store) observe(e *engine, r *raft.Raft, what any) {
	switch what := what.(type) {
	case raft.RaftState:
		e.transport.roleChanged(what)
		if what == raft.Leader {
			s.leads.Store(&Leadership{
				Term: r.CurrentTerm(), Addr: s.Addr(), ServerID: s.ServerID(), Self: true, Since: time.Now(),
			})
		} else {
			s.leads.Store(nil)
		}
	case raft.LeaderObservation:
	default:
		return
	}
	s.signal()
}

// raft returns the running Raft, or nil.
func (s *Store) raft() *raft.Raft {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine == nil {
		return nil
	}
	return s.engine.raft
}

// stopRaft stops Raft, if it runs.
func (s *Store) stopRaft() {
	s.mu.Lock()
	e := s.engine
	s.engine = nil
	s.mu.Unlock()
	if e == nil {
		return
	}
	e.stop(s.port)
	s.stable.running.Store(false)
	s.leads.Store(nil)
	s.signal()
}

// stop ends the engine's goroutines. Calls of Raft's that are under way would
// last until their time is over, so their connections are closed.
func (e *engine) stop(p *port) {
	p.closeRaft()
	if e.raft != nil {
		done := e.raft.Shutdown()
		e.transport.stream.sever()
		_ = done.Error() // always nil; it waits
	}
	e.transport.Close()
	e.transport.stream.sever()
	e.transport.CloseStreams()
	close(e.transport.closed)
	e.forward.Wait()
}

// errEnded is the reason for which nothing is proposed any more.
var errEnded = errors.New("node is shutting down")
