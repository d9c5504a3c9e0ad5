package raftstore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// recoverNode recovers the cluster on a stopped node.
func recoverNode(t *testing.T, n *node) *Recovery {
	t.Helper()
	r, err := OpenRecovery(n.options.DataDir, n.options.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Commit(filepath.Join(t.TempDir(), "backup"), n.options.Listen), r.Close()); err != nil {
		t.Fatal(err)
	}
	return r
}

// The majority is lost for good: one of three goes on, with all that it knew,
// and no disk of the old cluster is let in or heard again.
func TestRecoverGoesOnWithOneNode(t *testing.T) {
	nodes, leader := formed(t, 3)
	index, err := leader.Propose(t.Context(), Command{Wish: &Wish{Node: "n2", Out: true}})
	if err != nil {
		t.Fatal(err)
	}
	survivor := follower(nodes, leader)
	until(t, "the last command at the survivor", func() bool { return survivor.State().Index == index })
	id := survivor.ServerID()
	for _, n := range nodes {
		n.stop()
	}
	r := recoverNode(t, survivor)
	if len(r.Servers) != 3 || r.Index < index || !r.State.Nodes["n2"].Out {
		t.Errorf("the survivor knows %+v up to %d, not %d", r.State.Nodes, r.Index, index)
	}
	survivor.start()
	until(t, "a leader", func() bool { return survivor.Leadership().Self })
	now, err := survivor.Propose(t.Context(), Command{Tick: &Tick{}})
	if err != nil || now <= index+recoveryGap/2 {
		t.Errorf("command %d after %d: %v", now, index, err)
	}
	st := survivor.State()
	if len(survivor.Servers()) != 1 || len(st.Nodes) != 3 || !st.Nodes["n2"].Out || survivor.ServerID() == id {
		t.Errorf("servers %+v, state %+v", survivor.Servers(), st.Nodes)
	}
	if got := survivor.LastCommand(); got != now {
		t.Errorf("LastCommand is %d, not %d", got, now)
	}
	for _, lost := range nodes {
		if lost == survivor {
			continue
		}
		if err := lost.start().wait(); !errors.Is(err, ErrForgotten) {
			t.Errorf("%s comes back with its old disk: %v", lost.options.Name, err)
		}
		lost.cancel = nil
		lost.options.DataDir = filepath.Join(t.TempDir(), "new")
		lost.start()
	}
	settle(t, nodes)
}

// A crash in the middle of a recovery leaves one that can be done again.
func TestRecoverCanBeRepeated(t *testing.T) {
	nodes, leader := formed(t, 3)
	for _, n := range nodes {
		n.stop()
	}
	first := recoverNode(t, leader)
	second := recoverNode(t, leader)
	if second.Index <= first.Index || len(second.State.Nodes) != 3 {
		t.Errorf("recovered twice: index %d after %d, nodes %+v", second.Index, first.Index, second.State.Nodes)
	}
	leader.start()
	until(t, "a leader", func() bool { return leader.Leadership().Self })
}

func TestRecoverReadsSnapshotAndLog(t *testing.T) {
	nodes, leader := formed(t, 1)
	for _, out := range []string{"a", "b"} {
		if _, err := leader.Propose(t.Context(), Command{Join: &Join{Name: out, ServerID: out, Listen: at(1), Weight: 1, Reads: CommandVersion}}); err != nil {
			t.Fatal(err)
		}
		if out == "a" {
			if err := leader.raft().Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := leader.State()
	nodes[0].stop()
	r, err := OpenRecovery(leader.options.DataDir, leader.options.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got := r.State; got.Index != want.Index || len(got.Nodes) != 3 {
		t.Errorf("read %+v, not %+v", got, want)
	}
}

func TestRecoverRefuses(t *testing.T) {
	empty := t.TempDir()
	if _, err := OpenRecovery(empty, "n1"); !errors.Is(err, ErrNothing) {
		t.Errorf("an empty directory: %v", err)
	}
	if left, err := os.ReadDir(empty); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
	_, leader := formed(t, 1)
	if _, err := OpenRecovery(leader.options.DataDir, "n1"); !errors.Is(err, ErrInUse) {
		t.Errorf("while the agent runs: %v", err)
	}
	leader.stop()
	if _, err := OpenRecovery(leader.options.DataDir, "n9"); !errors.Is(err, ErrOtherNode) {
		t.Errorf("another node's: %v", err)
	}
	r, err := OpenRecovery(leader.options.DataDir, "n1")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Commit(empty, leader.options.Listen); err == nil || !strings.Contains(err.Error(), empty) {
		t.Errorf("a backup that is there already: %v", err)
	}
}
