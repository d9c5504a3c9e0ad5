package raftstore

import (
	"io"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// AppendEntries implements raft.Transport.
func (t *transport) AppendEntries(id raft.ServerID, at raft.ServerAddress, q *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse) error {
	again := func() bool { return !isHeartbeat(q) && t.stillAppends(id, at, q.Term) }
	return t.insist(again, func() error {
		return t.say(func() error { return t.Network.AppendEntries(id, t.meantFor(id, at), q, a) })
	})
}

// InstallSnapshot implements raft.Transport.
func (t *transport) InstallSnapshot(id raft.ServerID, at raft.ServerAddress, q *raft.InstallSnapshotRequest, a *raft.InstallSnapshotResponse, data io.Reader) error {
	source := &touched{Reader: data}
	again := func() bool { return !source.begun && t.stillAppends(id, at, q.Term) }
	return t.insist(again, func() error {
		return t.say(func() error { return t.Network.InstallSnapshot(id, t.meantFor(id, at), q, a, source) })
	})
}

// touched is a reader that knows whether it can still be read from its start.
type touched struct {
	io.Reader
	begun bool
}

// Read implements io.Reader.
func (r *touched) Read(p []byte) (int, error) {
	r.begun = true
	return r.Reader.Read(p)
}

// insist makes a call until the peer takes it, as long as that has a point.
//
// hashicorp/raft v1.7.3 waits between calls that bring entries, with nothing
// to wake it, for twice as long after each failure, up to 10 s. A node that
// starts, or is back from a failure, would get heartbeats but no map for that
// long.
func (t *transport) insist(again func() bool, call func() error) error {
	for {
		err := call()
		if err == nil || t.mute.Load() || !again() {
			return err
		}
		timer := time.NewTimer(t.retry)
		select {
		case <-timer.C:
		case <-t.closed:
			timer.Stop()
			return err
		}
	}
}

// stillAppends reports whether this node leads in the term and the server is a
// member at the address.
func (t *transport) stillAppends(id raft.ServerID, at raft.ServerAddress, term uint64) bool {
	r := t.raft.Load()
	if r == nil || r.State() != raft.Leader || r.CurrentTerm() != term {
		return false
	}
	future := r.GetConfiguration()
	return future.Error() == nil && slices.ContainsFunc(future.Configuration().Servers,
		func(s raft.Server) bool { return s.ID == id && s.Address == at })
}

// isHeartbeat tells a heartbeat from a call that brings entries, as
// raft.NetworkTransport does.
func isHeartbeat(q *raft.AppendEntriesRequest) bool {
	return q.PrevLogEntry == 0 && q.PrevLogTerm == 0 && len(q.Entries) == 0 && q.LeaderCommitIndex == 0
}
