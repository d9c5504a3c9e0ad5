package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// content is what is on a disk.
type content struct {
	logs      map[uint64]raft.Log
	low, high uint64
	keys      map[string][]byte
	numbers   map[string]uint64
	snapshot  *image
}

func newContent() *content {
	return &content{logs: map[uint64]raft.Log{}, keys: map[string][]byte{}, numbers: map[string]uint64{}}
}

func (c *content) clone() *content {
	d := *c
	d.logs, d.keys, d.numbers = maps.Clone(c.logs), maps.Clone(c.keys), maps.Clone(c.numbers)
	return &d
}

// disk is a node's disk. A write is on it when it has returned; one that a
// crash interrupts is there or not, as a whole.
type disk struct {
	world *world

	mu      sync.Mutex
	on      *content
	latency time.Duration
	full    bool
	stalled chan struct{}          // closed when it goes on
	pending map[int]func(*content) // writes under way
	writes  int
}

func newDisk(w *world) *disk {
	return &disk{world: w, on: newContent(), latency: time.Millisecond, pending: map[int]func(*content){}}
}

// stall stops all writes until the returned function is called.
func (d *disk) stall() (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stalled != nil {
		return func() {}
	}
	stalled := make(chan struct{})
	d.stalled = stalled
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.stalled == stalled {
			d.stalled = nil
		}
		close(stalled)
	}
}

// set changes what the disk is like.
func (d *disk) set(change func(*disk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

// diskPort is a process's way to the disk. A dead process writes to a copy of
// its own, so that it can end in peace.
type diskPort struct {
	*process
	disk *disk
	own  *content // of a dead process; guarded by disk.mu
}

// part is the crash.
func (d *diskPort) part() {
	d.disk.mu.Lock()
	defer d.disk.mu.Unlock()
	d.own = d.disk.on.clone()
	for _, write := range d.disk.pending {
		if d.disk.world.rng.chance(0.5) {
			write(d.disk.on)
		}
	}
	clear(d.disk.pending)
}

var errNoSpace = errors.New("no space left on device")

// write carries out a synchronous write.
func (d *diskPort) write(change func(*content)) error {
	d.pass()
	for {
		d.disk.mu.Lock()
		stalled, full, latency, dead := d.disk.stalled, d.disk.full, d.disk.latency, d.own != nil
		if dead {
			change(d.own)
			d.disk.mu.Unlock()
			return nil
		}
		if stalled == nil {
			if full {
				d.disk.mu.Unlock()
				return errNoSpace
			}
			d.disk.writes++
			id := d.disk.writes
			d.disk.pending[id] = change
			d.disk.mu.Unlock()
			return d.sync(id, change, latency)
		}
		d.disk.mu.Unlock()
		select {
		case <-stalled:
		case <-d.gone:
		}
	}
}

// sync ends a write that is under way.
func (d *diskPort) sync(id int, change func(*content), latency time.Duration) error {
	d.sleep(d.disk.world.rng.around(latency))
	d.disk.mu.Lock()
	defer d.disk.mu.Unlock()
	if d.own != nil {
		change(d.own)
		return nil
	}
	delete(d.disk.pending, id)
	change(d.disk.on)
	return nil
}

// read looks at what the process sees on its disk.
func (d *diskPort) read(look func(*content)) {
	d.disk.mu.Lock()
	defer d.disk.mu.Unlock()
	if d.own != nil {
		look(d.own)
		return
	}
	look(d.disk.on)
}

func (d *diskPort) FirstIndex() (first uint64, err error) {
	d.read(func(c *content) { first = c.low })
	return first, nil
}

func (d *diskPort) LastIndex() (last uint64, err error) {
	d.read(func(c *content) { last = c.high })
	return last, nil
}

func (d *diskPort) GetLog(index uint64, into *raft.Log) (err error) {
	d.read(func(c *content) {
		entry, ok := c.logs[index]
		if !ok {
			err = raft.ErrLogNotFound
			return
		}
		*into = entry
	})
	return err
}

func (d *diskPort) StoreLog(entry *raft.Log) error { return d.StoreLogs([]*raft.Log{entry}) }

func (d *diskPort) StoreLogs(entries []*raft.Log) error {
	return d.write(func(c *content) {
		for _, e := range entries {
			c.logs[e.Index] = *e
			if c.low == 0 {
				c.low = e.Index
			}
			c.high = max(c.high, e.Index)
		}
	})
}

func (d *diskPort) DeleteRange(first, last uint64) error {
	return d.write(func(c *content) {
		for i := first; i <= last; i++ {
			delete(c.logs, i)
		}
		if first <= c.low {
			c.low = last + 1
		}
		if last >= c.high {
			c.high = first - 1
		}
		if c.low > c.high {
			c.low, c.high = 0, 0
		}
	})
}

// Set writes our own record at once: it is written under a lock.
func (d *diskPort) Set(key, value []byte) error {
	change := func(c *content) { c.keys[string(key)] = bytes.Clone(value) }
	if string(key) != "Earshot" {
		return d.write(change)
	}
	d.read(change)
	return nil
}

func (d *diskPort) Get(key []byte) (value []byte, err error) {
	d.read(func(c *content) { value = bytes.Clone(c.keys[string(key)]) })
	if value == nil {
		return nil, raftboltdb.ErrKeyNotFound
	}
	return value, nil
}

func (d *diskPort) SetUint64(key []byte, value uint64) error {
	return d.write(func(c *content) { c.numbers[string(key)] = value })
}

func (d *diskPort) GetUint64(key []byte) (value uint64, err error) {
	d.read(func(c *content) {
		var ok bool
		if value, ok = c.numbers[string(key)]; !ok {
			err = raftboltdb.ErrKeyNotFound
		}
	})
	return value, err
}

func (d *diskPort) Close() error { return nil }

// snapshots is the same disk's snapshot directory.
type snapshots struct{ *diskPort }

// image is one snapshot.
type image struct {
	meta raft.SnapshotMeta
	data []byte
}

func (s snapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration, configurationIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	return &sink{port: s.diskPort, meta: raft.SnapshotMeta{
		Version: version, ID: fmt.Sprintf("%d-%d", term, index), Index: index, Term: term,
		Configuration: configuration, ConfigurationIndex: configurationIndex,
	}}, nil
}

func (s snapshots) List() (all []*raft.SnapshotMeta, err error) {
	s.read(func(c *content) {
		if c.snapshot != nil {
			meta := c.snapshot.meta
			all = append(all, &meta)
		}
	})
	return all, nil
}

func (s snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	var found *image
	s.read(func(c *content) { found = c.snapshot })
	if found == nil || found.meta.ID != id {
		return nil, nil, fmt.Errorf("no snapshot %s", id)
	}
	meta := found.meta
	return &meta, io.NopCloser(bytes.NewReader(found.data)), nil
}

// sink is a snapshot being written.
type sink struct {
	bytes.Buffer
	port *diskPort
	meta raft.SnapshotMeta
}

func (s *sink) ID() string    { return s.meta.ID }
func (s *sink) Cancel() error { return nil }

func (s *sink) Close() error {
	s.meta.Size = int64(s.Len())
	done := &image{meta: s.meta, data: s.Bytes()}
	return s.port.write(func(c *content) { c.snapshot = done })
}
