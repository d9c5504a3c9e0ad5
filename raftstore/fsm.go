package raftstore

import (
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"
)

// fsm feeds committed commands to the pure state. It has no clock, touches
// nothing outside the store, and is called by one goroutine of Raft's.
type fsm struct{ store *Store }

// Apply implements raft.FSM. What it returns goes to the proposer.
func (f fsm) Apply(entry *raft.Log) any {
	s := f.store
	if err := s.Halted(); err != nil {
		return err
	}
	command, err := DecodeCommand(entry.Data)
	if errors.Is(err, ErrVersion) {
		// To skip it would be to have another state than the others.
		s.halt(fmt.Errorf("apply log entry %d: %w", entry.Index, err))
		return s.Halted()
	}
	// A malformed command is the same nothing to every node, but an entry.
	next, applied := s.State().Apply(entry.Index, entry.Term, command)
	s.publish(next)
	if err != nil {
		return err
	}
	return applied
}

// Snapshot implements raft.FSM.
func (f fsm) Snapshot() (raft.FSMSnapshot, error) {
	if err := f.store.Halted(); err != nil {
		// Raft would take the state for that of a later entry.
		return nil, err
	}
	return &image{f.store.State()}, nil
}

// Restore implements raft.FSM.
func (f fsm) Restore(source io.ReadCloser) error {
	data, err := io.ReadAll(source)
	if err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	state, err := DecodeState(data)
	if errors.Is(err, ErrVersion) {
		f.store.halt(err)
	}
	if err != nil {
		return err
	}
	f.store.halted.Store(nil)
	f.store.logs.restored(state.Index)
	f.store.publish(state)
	return nil
}

// image is a snapshot being written.
type image struct{ state *State }

// Persist implements raft.FSMSnapshot.
func (i *image) Persist(sink raft.SnapshotSink) error {
	data, err := i.state.Encode()
	if err == nil {
		_, err = sink.Write(data)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write snapshot: %w", err), sink.Cancel())
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (i *image) Release() {}

// publish makes a state the newest one.
func (s *Store) publish(state *State) {
	s.state.Store(state)
	s.signal()
}

// halt stops the state where it is.
func (s *Store) halt(err error) {
	if s.halted.CompareAndSwap(nil, &err) {
		s.log.Error("stopped following the cluster: this program is too old for it", "error", err)
		s.signal()
	}
}

// Halted says why this node no longer follows the cluster's state, or nil.
func (s *Store) Halted() error {
	if err := s.halted.Load(); err != nil {
		return *err
	}
	return nil
}
