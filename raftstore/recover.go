package raftstore

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
)

// ErrNothing: the data directory has nothing of a cluster.
var ErrNothing = errors.New("data directory holds nothing of a cluster")

// Recovery is a survivor's data directory, locked, on the day when the
// majority of the voters is lost for good. Nothing is changed before Commit.
type Recovery struct {
	// State is what the node knows, with everything that is in its log.
	State *State
	// Servers are the members of the Raft cluster that was.
	Servers []Server
	// Index and Term are those of the end of the log.
	Index, Term uint64

	disk *disk
	dir  string
}

// recoveryGap is what a recovered log skips. Nodes of the old cluster may have
// seen entries that the survivor has not: no index of theirs may mean
// something else in the new one, in a kernel least of all (rule P11).
const recoveryGap = 1 << 20

// OpenRecovery locks the named node's data directory and reads it.
func OpenRecovery(dir, name string) (*Recovery, error) {
	// openDisk would make what is not there.
	if _, err := os.Stat(filepath.Join(dir, "raft.db")); err != nil {
		return nil, fmt.Errorf("open data directory %s: %w: %w", dir, ErrNothing, err)
	}
	d, err := openDisk(dir, name, &raftLog{log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	r := &Recovery{State: NewState(), disk: d, dir: dir}
	if err := r.read(); err != nil {
		return nil, errors.Join(fmt.Errorf("read data directory %s: %w", dir, err), d.bolt.Close())
	}
	return r, nil
}

// Close gives the data directory up.
func (r *Recovery) Close() error { return r.disk.bolt.Close() }

// read replays the newest snapshot and the log. What is in the log counts,
// whether a majority had it or not: nobody else can tell any more.
func (r *Recovery) read() error {
	fresh, err := r.disk.fresh()
	if err != nil {
		return err
	}
	if fresh || !r.disk.record().Joined {
		return ErrNothing
	}
	if err := r.readSnapshot(); err != nil {
		return err
	}
	last, err := r.disk.bolt.LastIndex()
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	for index := r.Index + 1; index <= last; index++ {
		var entry raft.Log
		if err := r.disk.bolt.GetLog(index, &entry); err != nil {
			return fmt.Errorf("read log entry %d: %w", index, err)
		}
		r.Index, r.Term = entry.Index, entry.Term
		switch entry.Type {
		case raft.LogConfiguration:
			r.Servers = serversOf(raft.DecodeConfiguration(entry.Data))
		case raft.LogCommand:
			c, err := DecodeCommand(entry.Data)
			if errors.Is(err, ErrVersion) {
				return fmt.Errorf("read log entry %d: %w", index, err)
			}
			r.State, _ = r.State.Apply(entry.Index, entry.Term, c) // refused ones change nothing
		}
	}
	return nil
}

func (r *Recovery) readSnapshot() error {
	all, err := r.disk.snaps.List()
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	if len(all) == 0 {
		return nil
	}
	meta, source, err := r.disk.snaps.Open(all[0].ID)
	if err != nil {
		return fmt.Errorf("open snapshot %s: %w", all[0].ID, err)
	}
	defer source.Close()
	data, err := io.ReadAll(source)
	if err != nil {
		return fmt.Errorf("read snapshot %s: %w", all[0].ID, err)
	}
	if r.State, err = DecodeState(data); err != nil {
		return err
	}
	r.Index, r.Term, r.Servers = meta.Index, meta.Term, serversOf(meta.Configuration)
	return nil
}

// Commit makes the node, at its address for peers, the only server of the
// cluster, after a copy of the data directory to backup. Every old server id,
// this node's too, is of no use from then on, so that no disk of the old
// cluster can vote in the new one. It can be repeated after a crash.
//
// raft.RecoverCluster would do the same to the log, but keep the index and,
// with it, the id.
func (r *Recovery) Commit(backup, address string) error {
	if err := os.Mkdir(backup, 0o700); err != nil {
		return fmt.Errorf("copy data directory: %w", err)
	}
	if err := os.CopyFS(backup, os.DirFS(r.dir)); err != nil {
		return fmt.Errorf("copy data directory to %s: %w", backup, err)
	}
	id := newServerID()
	state := r.State.recovered(r.disk.record().Name, id, address)
	index := r.Index + recoveryGap
	state.Index = index
	alone := raft.Configuration{Servers: []raft.Server{{
		Suffrage: raft.Voter, ID: raft.ServerID(id), Address: raft.ServerAddress(address),
	}}}
	_, nobody := raft.NewInmemTransport(raft.ServerAddress(address)) // it only encodes addresses
	sink, err := r.disk.snaps.Create(raft.SnapshotVersionMax, index, r.Term, alone, index, nobody)
	if err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	if err := (&image{state}).Persist(sink); err != nil {
		return err
	}
	if err := r.disk.update(func(rec *record) { rec.ServerID = id }); err != nil {
		return err
	}
	return r.dropLog()
}

// dropLog removes the log, all of which is in the snapshot.
func (r *Recovery) dropLog() error {
	first, err := r.disk.bolt.FirstIndex()
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	last, err := r.disk.bolt.LastIndex()
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	if err := r.disk.bolt.DeleteRange(first, last); err != nil {
		return fmt.Errorf("drop log: %w", err)
	}
	return nil
}

// recovered is the state of a cluster that goes on with one of its nodes. The
// others stay members until they are judged dead as usual, without the server
// ids under which they were known.
func (s *State) recovered(survivor, id, address string) *State {
	next := s.clone()
	next.Epoch++
	for name, n := range next.Nodes {
		n.ServerID = ""
		if name == survivor {
			n.ServerID, n.Listen, n.Reads = id, address, CommandVersion
		}
		next.Nodes[name] = n
	}
	return next
}
