package raftstore

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// ErrInUse is wrapped by Open's error when another agent has the data
// directory.
var ErrInUse = errors.New("agent already running (data directory in use)")

// ErrOtherNode is wrapped by the error of a data directory that belongs to a
// node of another name.
var ErrOtherNode = errors.New("data directory belongs to another node")

// ErrOtherRole is wrapped by the error of a data directory of a node whose
// role is another.
var ErrOtherRole = errors.New("data directory belongs to a node of another role")

const (
	// lockWait is how long Open waits for the lock of the data directory: an
	// agent that is just ending gives it up within that time.
	lockWait = 500 * time.Millisecond
	// snapshotsKept is the number of snapshots on disk: the last one, and one
	// more in case it cannot be read.
	snapshotsKept = 2
	// recordVersion is the format of record.
	recordVersion = 1
)

// Keys of the stable store. The first is hashicorp/raft's own.
var (
	keyCurrentTerm = []byte("CurrentTerm")
	keyRecord      = []byte("Earshot")
)

// record is what a node remembers beside Raft's own state. It lives in the
// same file, so that neither can be lost without the other (rule P9).
type record struct {
	Version  int    `json:"version"`
	Name     string `json:"name"`
	ServerID string `json:"server_id"`
	// Joined says that the cluster has known this server id under this name.
	// A stranger under the same name has replaced it since, then.
	Joined  bool    `json:"joined,omitempty"`
	Witness bool    `json:"witness,omitempty"`
	Promise promise `json:"promise,omitzero"`
	// Process is the number of the last process that used the directory.
	Process int64 `json:"process,omitempty"`
}

// stable is the part of the log file that both we and Raft write.
type stable interface {
	raft.LogStore
	raft.StableStore
	Close() error
}

// disk is a node's data directory.
type disk struct {
	path  string
	bolt  stable
	snaps raft.SnapshotStore

	mu  sync.Mutex
	rec record
}

// openDisk opens and locks the data directory of the named node, and makes it
// where there is none.
func openDisk(dir, name string, log hclog.Logger) (*disk, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	path := filepath.Join(dir, "raft.db")
	bolt, err := raftboltdb.New(raftboltdb.Options{
		Path:        path,
		BoltOptions: &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType},
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open data directory %s: %w", dir, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("open data directory %s: open raft.db: %w", dir, err)
	}
	d := &disk{path: path, bolt: bolt}
	if err := d.load(dir, name, log); err != nil {
		return nil, errors.Join(fmt.Errorf("open data directory %s: %w", dir, err), bolt.Close())
	}
	return d, nil
}

// load reads what the directory holds, and makes a new one durable.
func (d *disk) load(dir, name string, log hclog.Logger) error {
	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, log)
	if err != nil {
		return fmt.Errorf("open snapshots: %w", err)
	}
	d.snaps = snaps
	created, err := d.recall(name)
	if err != nil || !created {
		return err
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// recall reads the record, and writes that of a new disk, which it reports.
func (d *disk) recall(name string) (created bool, err error) {
	fresh, err := d.fresh()
	if err != nil {
		return false, err
	}
	data, err := d.bolt.Get(keyRecord)
	if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return false, fmt.Errorf("read node record: %w", err)
	}
	if data == nil {
		if !fresh {
			return false, errors.New("it has snapshots and no raft.db: put that back, or empty the directory")
		}
		return true, d.create(name)
	}
	if err := json.Unmarshal(data, &d.rec); err != nil {
		return false, fmt.Errorf("read node record: %w", err)
	}
	if d.rec.Version > recordVersion {
		return false, fmt.Errorf("read node record: %w", ErrVersion)
	}
	if d.rec.Name == name {
		return false, nil
	}
	if !fresh {
		return false, fmt.Errorf("%w: %s, not %s", ErrOtherNode, d.rec.Name, name)
	}
	return false, d.update(func(r *record) { r.Name = name })
}

// keepRole sets the role of a new directory, and holds another to its own: the
// kernel of a node that has answered may hold a lease that a witness, which
// does not look into its kernel, knows nothing of.
func (d *disk) keepRole(witness bool) error {
	if d.record().Witness == witness {
		return nil
	}
	fresh, err := d.fresh()
	if err != nil {
		return err
	}
	if !fresh {
		return ErrOtherRole
	}
	return d.update(func(r *record) { r.Witness = witness })
}

// create makes the record of a new directory.
func (d *disk) create(name string) error {
	return d.update(func(r *record) {
		*r = record{Version: recordVersion, Name: name, ServerID: newServerID()}
	})
}

func newServerID() string {
	id := make([]byte, 16)
	rand.Read(id) // never fails
	return hex.EncodeToString(id)
}

// record returns what is remembered.
func (d *disk) record() record {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rec
}

// update changes the record, on disk first.
func (d *disk) update(change func(*record)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	rec := d.rec
	change(&rec)
	data, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("write node record: %w", err)
	}
	if err := d.bolt.Set(keyRecord, data); err != nil {
		return fmt.Errorf("write node record to %s: %w", d.path, err)
	}
	d.rec = rec
	return nil
}

// start returns the number of a process that starts now: later ones have
// greater numbers, though the clock be set back. A disk that refuses it is found
// out soon enough.
func (d *disk) start(now time.Time) int64 {
	process := max(now.UnixNano(), d.record().Process+1)
	_ = d.update(func(r *record) { r.Process = process })
	return process
}

// fresh reports whether the directory holds nothing of a cluster: no log and
// no snapshot. A term alone is what a crash within bootstrap leaves.
func (d *disk) fresh() (bool, error) {
	last, err := d.bolt.LastIndex()
	if err != nil {
		return false, fmt.Errorf("read log: %w", err)
	}
	snaps, err := d.snaps.List()
	if err != nil {
		return false, fmt.Errorf("list snapshots: %w", err)
	}
	return last == 0 && len(snaps) == 0, nil
}

// bootstrap makes the node the only member of a new cluster. Unlike
// raft.BootstrapCluster it can be repeated after a crash in the middle. Raft
// must not run.
func (d *disk) bootstrap(address string) error {
	term, err := d.bolt.GetUint64(keyCurrentTerm)
	if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return fmt.Errorf("read term: %w", err)
	}
	term = max(term, 1)
	if err := d.bolt.SetUint64(keyCurrentTerm, term); err != nil {
		return fmt.Errorf("write term to %s: %w", d.path, err)
	}
	first := raft.Configuration{Servers: []raft.Server{{
		Suffrage: raft.Voter,
		ID:       raft.ServerID(d.record().ServerID),
		Address:  raft.ServerAddress(address),
	}}}
	err = d.bolt.StoreLog(&raft.Log{Index: 1, Term: term, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(first)})
	if err != nil {
		return fmt.Errorf("write first log entry to %s: %w", d.path, err)
	}
	return nil
}
