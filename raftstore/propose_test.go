package raftstore

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestProposals(t *testing.T) {
	nodes, leader := formed(t, 3)
	if _, err := leader.Propose(t.Context(), Command{Wish: &Wish{Node: "nobody"}}); !errors.Is(err, ErrUnknownNode) || errors.Is(err, ErrUnknown) {
		t.Errorf("what Apply refuses: %v", err)
	}
	other := follower(nodes, leader)
	if _, err := other.Propose(t.Context(), Command{Tick: &Tick{}}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("on a follower: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := leader.Propose(ended, Command{Tick: &Tick{}}); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnknown) {
		t.Errorf("not begun: %v", err)
	}
	for _, n := range nodes {
		if n != leader {
			n.stop()
		}
	}
	if _, err := leader.Propose(t.Context(), Command{Tick: &Tick{}}); !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrNotLeader) {
		t.Errorf("without a quorum: %v", err)
	}
}

// A leader proves every two leases that it can commit. That is one entry, which
// every node writes to its disk, and not two; a command that changes something is
// told to all at once by a second one.
func TestATickIsOneEntry(t *testing.T) {
	_, leader := formed(t, 3)
	entries := func(c Command, times int) uint64 {
		t.Helper()
		begin := leader.raft().LastIndex()
		for range times {
			if _, err := leader.Propose(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		pause(t.Context(), 100*time.Millisecond)
		return leader.raft().LastIndex() - begin
	}
	const many = 30
	if n := entries(Command{Tick: &Tick{}}, many); n > many*3/2 { // others may come in between
		t.Errorf("%d entries for %d ticks", n, many)
	}
	if n := entries(Command{Wish: &Wish{Node: "n1", Out: true}}, many); n < 2*many {
		t.Errorf("%d entries for %d commands", n, many)
	}
}

func TestTransferHandsOver(t *testing.T) {
	nodes, leader := formed(t, 3)
	if got := leader.Leadership(); got.Term != leader.Term() || got.Since.IsZero() || got.Addr != leader.Addr() {
		t.Errorf("leadership %+v in term %d", got, leader.Term())
	}
	if err := follower(nodes, leader).Transfer(t.Context()); err != nil {
		t.Errorf("transfer on a follower: %v", err)
	}
	if err := leader.Transfer(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "another leader", func() bool {
		for _, n := range nodes {
			if n != leader && n.Leadership().Self {
				return true
			}
		}
		return false
	})
}

// A leader with nobody to hand over to says so, and soon.
func TestTransferToNobody(t *testing.T) {
	_, leader := formed(t, 1)
	if err := leader.Transfer(t.Context()); !errors.Is(err, ErrNotHandedOver) || !leader.Leadership().Self {
		t.Fatalf("handed over to nobody: %v, leader still: %v", err, leader.Leadership().Self)
	}
}

// P3: the bound that a leader names is one that a state can have, whatever
// entries of Raft's own the log ends with.
func TestP3LastCommandIsReached(t *testing.T) {
	nodes, leader := formed(t, 3)
	for round := range 4 {
		index, err := leader.Propose(t.Context(), Command{Tick: &Tick{}})
		if err != nil {
			t.Fatal(err)
		}
		if round == 2 {
			if err := leader.raft().Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
		}
		old := leader
		old.stop()
		old.start() // its successor's log ends with an entry that begins a term
		leader = settle(t, nodes)
		until(t, "an entry of Raft's at the end of the log", func() bool { return leader.raft().LastIndex() > index })
		for _, n := range nodes {
			until(t, "the state of the last command", func() bool { return n.State().Index == index })
			if got := n.LastCommand(); got != index {
				t.Errorf("round %d: LastCommand of %s is %d, the newest is %d", round, n.options.Name, got, index)
			}
		}
	}
}

func TestANodeFarBehindGetsASnapshot(t *testing.T) {
	nodes, leader := formed(t, 3)
	behind := follower(nodes, leader)
	behind.stop()
	var index uint64
	for range 2*snapshotEvery + 1 {
		var err error
		if index, err = leader.Propose(t.Context(), Command{Rest: &Rest{Node: "n1", For: time.Second}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := leader.raft().Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	first, err := leader.logs.FirstIndex()
	if err != nil || first < snapshotEvery/2 {
		t.Fatalf("the log begins at %d, %v", first, err)
	}
	behind.start()
	until(t, "the snapshot", func() bool { return behind.State().Index == index })
	if behind.State().Nodes["n1"].Rest != time.Second || behind.LastCommand() != index {
		t.Errorf("state %+v, last command %d, want %d", behind.State(), behind.LastCommand(), index)
	}
}

func TestANewerCommandHaltsTheState(t *testing.T) {
	nodes, leader := formed(t, 1)
	before := leader.State()
	future := leader.raft().Apply([]byte(`{"v":99,"sing":{}}`), 0)
	if err := future.Error(); err != nil {
		t.Fatal(err)
	}
	if err, _ := future.Response().(error); !errors.Is(err, ErrVersion) || !errors.Is(leader.Halted(), ErrVersion) {
		t.Errorf("a newer command: %v, halted: %v", err, leader.Halted())
	}
	if _, err := leader.Propose(t.Context(), Command{Tick: &Tick{}}); !errors.Is(err, ErrVersion) {
		t.Errorf("a command after it: %v", err)
	}
	if leader.State() != before {
		t.Error("the state went on")
	}
	if err := leader.raft().Snapshot().Error(); err == nil {
		t.Error("a halted state was taken for a newer one in a snapshot")
	}
	nodes[0].stop()
	nodes[0].start()
	until(t, "the halt after a restart", func() bool { return errors.Is(nodes[0].Halted(), ErrVersion) })
}
