package raftstore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestASecondAgentOnADataDirectory(t *testing.T) {
	n := newNode(t, GenerateKey(), "n1", free(t)).start()
	o := n.options
	o.Listen = free(t)
	if _, err := Open(o); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), o.DataDir) {
		t.Errorf("a second agent: %v", err)
	}
	o.DataDir = filepath.Join(t.TempDir(), "other")
	o.Listen = n.options.Listen
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), o.Listen) {
		t.Errorf("an address that is in use: %v", err)
	}
}

func TestADataDirectoryOfAnotherNode(t *testing.T) {
	n := newNode(t, GenerateKey(), "n1", free(t)).start()
	settle(t, []*node{n})
	n.stop()
	n.options.Name = "n2"
	if _, err := Open(n.options); !errors.Is(err, ErrOtherNode) {
		t.Errorf("n1's directory opened for n2: %v", err)
	}
	n.options.Name = "n1"
	if err := os.Remove(filepath.Join(n.options.DataDir, "raft.db")); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.stop() // no snapshot was left: it is simply a new node
}

// brokenDisk refuses writes when told to.
type brokenDisk struct {
	stable
	broken chan struct{}
}

var errDisk = errors.New("no space left on device")

func (b *brokenDisk) SetUint64(key []byte, value uint64) error {
	select {
	case <-b.broken:
		return errDisk
	default:
		return b.stable.SetUint64(key, value)
	}
}

// Raft panics when it cannot write its term, which takes the process down.
func TestAFullDiskEndsTheStoreInOrder(t *testing.T) {
	nodes, leader := formed(t, 3)
	full := follower(nodes, leader)
	full.stop()
	s, err := Open(full.options)
	if err != nil {
		t.Fatal(err)
	}
	broken := &brokenDisk{stable: s.disk.bolt, broken: make(chan struct{})}
	s.stable.StableStore = broken
	ended := make(chan error, 1)
	go func() { ended <- s.Run(t.Context(), Hooks{}) }()
	until(t, "the follower", func() bool { return s.Leadership().Addr == leader.Addr() })
	close(broken.broken)
	leader.stop() // an election needs a new term
	select {
	case err := <-ended:
		if !errors.Is(err, errDisk) || !strings.Contains(err.Error(), full.options.DataDir) {
			t.Errorf("Run ends with %v", err)
		}
	case <-time.After(patient):
		t.Fatal("Run does not end")
	}
}
