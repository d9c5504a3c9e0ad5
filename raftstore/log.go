package raftstore

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// logStore is Raft's log. It knows the newest command in it (rule P3: Raft's
// own last index counts entries that no state machine ever sees, so no state
// would reach it), and it ends the node when the disk refuses a write.
type logStore struct {
	raft.LogStore
	failed func(error)

	// busy is held over writes. It is no mutex, since those may take long:
	// testing/synctest lets time pass only for whoever waits at a channel.
	busy chan struct{}
	// floor is the index of the newest command in the last snapshot.
	floor  uint64
	newest atomic.Uint64
	// change is the newest command that can change anything, as a Tick cannot.
	change atomic.Uint64
	// used says that the log has ever had an entry, or there is a snapshot.
	used atomic.Bool
}

// newLogStore returns the log in inner, which may have entries already.
func newLogStore(inner raft.LogStore, failed func(error)) (*logStore, error) {
	l := &logStore{LogStore: inner, failed: failed, busy: make(chan struct{}, 1)}
	last, err := inner.LastIndex()
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	l.used.Store(last > 0)
	return l, l.scan(last)
}

// lock waits for the log and returns what lets it go.
func (l *logStore) lock() (unlock func()) {
	l.busy <- struct{}{}
	return func() { <-l.busy }
}

// isCommand reports whether an entry is a command.
func isCommand(entry *raft.Log) bool { return entry.Type == raft.LogCommand }

// isChange reports whether an entry is a command that can change anything. One
// that this program cannot read may.
func isChange(entry *raft.Log) bool {
	if !isCommand(entry) {
		return false
	}
	c, err := DecodeCommand(entry.Data)
	return err != nil || c.Tick == nil
}

// scan looks for the newest commands at or before index.
func (l *logStore) scan(index uint64) error {
	newest, err := l.find(index, isCommand)
	if err != nil {
		return err
	}
	change, err := l.find(newest, isChange)
	if err != nil {
		return err
	}
	l.newest.Store(newest)
	l.change.Store(change)
	return nil
}

// find returns the index of the newest entry of a kind at or before index, or
// the floor.
func (l *logStore) find(index uint64, is func(*raft.Log) bool) (uint64, error) {
	for ; index > l.floor; index-- {
		var entry raft.Log
		err := l.GetLog(index, &entry)
		if errors.Is(err, raft.ErrLogNotFound) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("read log entry %d: %w", index, err)
		}
		if is(&entry) {
			return index, nil
		}
	}
	return l.floor, nil
}

// restored says that the state machine holds everything up to the command of
// the given index.
func (l *logStore) restored(index uint64) {
	defer l.lock()()
	l.used.Store(true)
	l.floor = max(l.floor, index)
	l.newest.Store(max(l.newest.Load(), index))
	l.change.Store(max(l.change.Load(), index))
}

// StoreLog implements raft.LogStore.
func (l *logStore) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore. An entry is sent to nobody before it
// returns, so newest is never behind what a follower has.
func (l *logStore) StoreLogs(logs []*raft.Log) error {
	defer l.lock()()
	if err := l.LogStore.StoreLogs(logs); err != nil {
		l.failed(fmt.Errorf("write log: %w", err))
		return err
	}
	l.used.Store(true)
	for _, log := range logs {
		if isCommand(log) {
			l.newest.Store(log.Index)
		}
		if isChange(log) {
			l.change.Store(log.Index)
		}
	}
	return nil
}

// DeleteRange implements raft.LogStore. Raft deletes the beginning of the log
// after a snapshot, which leaves the newest command what it is, and the end
// of it where a new leader's log differs.
func (l *logStore) DeleteRange(first, last uint64) error {
	defer l.lock()()
	end, err := l.LastIndex()
	if err != nil {
		return err
	}
	if err := l.LogStore.DeleteRange(first, last); err != nil {
		l.failed(fmt.Errorf("write log: %w", err))
		return err
	}
	if last < end || first > l.newest.Load() {
		return nil
	}
	return l.scan(first - 1)
}

// stableStore is where Raft keeps its term and vote. Raft panics when it
// cannot write its term. Here the goroutine ends instead, as if its thread had
// died, and the failure ends the store in good order.
type stableStore struct {
	raft.StableStore
	failed func(error)
	// running is false while raft.NewRaft runs in a goroutine of ours, where
	// a panic is what we can turn into an error.
	running atomic.Bool
}

// Set implements raft.StableStore.
func (s *stableStore) Set(key, value []byte) error {
	return s.check(s.StableStore.Set(key, value))
}

// SetUint64 implements raft.StableStore.
func (s *stableStore) SetUint64(key []byte, value uint64) error {
	return s.check(s.StableStore.SetUint64(key, value))
}

func (s *stableStore) check(err error) error {
	if err == nil {
		return nil
	}
	s.failed(fmt.Errorf("write term and vote: %w", err))
	if s.running.Load() {
		runtime.Goexit()
	}
	return err
}
