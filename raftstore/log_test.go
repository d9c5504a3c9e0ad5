package raftstore

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// P3: the newest command is known through everything that happens to a log.
func TestP3TheLogKnowsItsNewestCommand(t *testing.T) {
	disk := raft.NewInmemStore()
	failed := func(err error) { t.Errorf("failed: %v", err) }
	l, err := newLogStore(disk, failed)
	if err != nil {
		t.Fatal(err)
	}
	entry := func(index uint64, kind raft.LogType) *raft.Log { return &raft.Log{Index: index, Term: 1, Type: kind} }
	tick := func(index uint64) *raft.Log {
		data, err := Command{Tick: &Tick{}}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return &raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: data}
	}
	var all []*raft.Log
	for i, kind := range []raft.LogType{raft.LogConfiguration, raft.LogNoop, raft.LogCommand, raft.LogCommand, raft.LogNoop, raft.LogCommand, raft.LogBarrier} {
		all = append(all, entry(uint64(i+1), kind))
	}
	for _, step := range []struct {
		name string
		do   func() error
		want uint64
		// change is the newest command that is no Tick, if that is another.
		change uint64
	}{
		{"an empty log", func() error { return nil }, 0, 0},
		{"entries of Raft's", func() error { return l.StoreLogs(all[:2]) }, 0, 0},
		{"commands, and what comes after", func() error { return l.StoreLogs(all[2:]) }, 6, 0},
		{"the end is another leader's", func() error { return l.DeleteRange(6, 7) }, 4, 0},
		{"and so is more of it", func() error { return l.DeleteRange(4, 5) }, 3, 0},
		{"an entry of Raft's again", func() error { return l.StoreLog(entry(4, raft.LogNoop)) }, 3, 0},
		{"a restart", func() (err error) { l, err = newLogStore(disk, failed); return err }, 3, 0},
		{"the beginning goes, after a snapshot", func() error { return l.DeleteRange(1, 3) }, 3, 0},
		{"a restart without the command, and the snapshot", func() (err error) {
			l, err = newLogStore(disk, failed)
			l.restored(3)
			return err
		}, 3, 0},
		{"a command after it", func() error { return l.StoreLog(entry(5, raft.LogCommand)) }, 5, 0},
		{"the end goes, down to the snapshot", func() error { return l.DeleteRange(4, 5) }, 3, 0},
		{"a snapshot of the leader's", func() error { l.restored(20); return nil }, 20, 0},
		{name: "what follows it", do: func() error { return l.StoreLog(entry(21, raft.LogCommand)) }, want: 21},
		{"Ticks", func() error { return l.StoreLogs([]*raft.Log{tick(22), tick(23)}) }, 23, 21},
		{"the last one goes", func() error { return l.DeleteRange(23, 23) }, 22, 21},
		{"a restart with a Tick at the end", func() (err error) {
			l, err = newLogStore(disk, failed)
			return err
		}, 22, 21},
		{name: "a snapshot up to a Tick", do: func() error { l.restored(22); return nil }, want: 22},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got := l.newest.Load(); got != step.want {
			t.Errorf("%s: newest command %d, want %d", step.name, got, step.want)
		}
		if step.change == 0 {
			step.change = step.want
		}
		if got := l.change.Load(); got != step.change {
			t.Errorf("%s: newest change %d, want %d", step.name, got, step.change)
		}
	}
}

func TestEntriesAreBroughtUntilTheyArrive(t *testing.T) {
	tr := &transport{closed: make(chan struct{}), retry: time.Millisecond}
	errDown := errors.New("down")
	calls := 0
	down := func() error {
		if calls++; calls < 4 {
			return errDown
		}
		return nil
	}
	if err := tr.insist(func() bool { return true }, down); err != nil || calls != 4 {
		t.Errorf("after %d calls: %v", calls, err)
	}
	calls = 0
	if err := tr.insist(func() bool { return calls < 2 }, down); !errors.Is(err, errDown) || calls != 2 {
		t.Errorf("with no point any more, after %d calls: %v", calls, err)
	}
	close(tr.closed)
	calls = 0
	tr.retry = patient
	if err := tr.insist(func() bool { return true }, down); !errors.Is(err, errDown) || calls != 1 {
		t.Errorf("at the end, after %d calls: %v", calls, err)
	}
}
