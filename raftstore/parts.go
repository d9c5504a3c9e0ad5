package raftstore

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/hashicorp/raft"
)

// Parts are what a store stands on: models of a disk and of a network, under
// which a simulation runs everything else as it is.
type Parts struct {
	// Disk and Snapshots outlive the store. A key that is not there gives an
	// error that says "not found".
	Disk      Disk
	Snapshots raft.SnapshotStore
	// Network makes what carries Raft's calls, anew each time that Raft starts.
	Network func() Network
	// Client carries requests to the peers' handlers.
	Client http.RoundTripper
	// Serve is given what answers the peers' requests while the store runs.
	Serve func(http.Handler)
}

// Disk is what a node keeps: Raft's log, its term and vote, and our record.
type Disk interface {
	raft.LogStore
	raft.StableStore
	Close() error
}

// Network carries Raft's calls. A call names its target as "server id@ip:port"
// and may be answered by no other server (rule P9).
type Network interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
	CloseStreams()
}

// Assemble makes a store of given parts. It opens no directory and no port.
func Assemble(o Options, p Parts) (*Store, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("assemble store: %w", err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := newStore(o, &disk{path: "model", bolt: p.Disk, snaps: p.Snapshots})
	s.parts = &p
	if _, err := s.disk.recall(o.Name); err != nil {
		return nil, fmt.Errorf("assemble store: %w", err)
	}
	if err := s.adopt(); err != nil {
		return nil, fmt.Errorf("assemble store: %w", err)
	}
	s.dialer = &dialer{timeout: dialTime(o.Lease)}
	s.client = &http.Client{Transport: p.Client}
	return s, nil
}

// transport makes the transport of a Raft that is about to start.
func (s *Store) transport() *transport {
	if s.parts != nil {
		return carriedBy(s.parts.Network(), nil, s.options.Lease)
	}
	return newTransport(s.port.openRaft(), s.dialer, s.options.Lease, &raftLog{log: s.log})
}

// CallTime is how long a peer may take to answer a call of Raft's.
func CallTime(lease time.Duration) time.Duration { return callTime(lease) }
