package raftstore

import (
	"testing"
	"time"
)

// A process of a node is told from those before it, though the clock was set
// back in between.
func TestProcessesAreNumberedInOrder(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	var last int64
	for _, at := range []time.Time{now, now, now.Add(-2 * time.Hour), now.Add(time.Second)} {
		d, err := openDisk(dir, "n1", nil)
		if err != nil {
			t.Fatal(err)
		}
		process := d.start(at)
		if process <= last {
			t.Errorf("process %d after %d", process, last)
		}
		last = process
		if err := d.bolt.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if last != now.Add(time.Second).UnixNano() {
		t.Errorf("the last is %d, not of its time %d", last, now.Add(time.Second).UnixNano())
	}
}

// The lease of a node that starts again is the longer of the two, until it says
// that the old one is over.
func TestLeasesInTheState(t *testing.T) {
	lease := func(s *State) time.Duration { return s.Nodes["a"].Lease }
	with := func(id string, lease time.Duration) Command {
		return Command{Join: &Join{Name: "a", ServerID: id, Listen: "a:1", Weight: 1, Reads: CommandVersion, Lease: lease}}
	}
	s := replay(t, with("1", time.Second), with("1", 3*time.Second))
	if lease(s) != 3*time.Second {
		t.Errorf("longer: %v", lease(s))
	}
	s = replay(t, with("1", 3*time.Second), with("1", time.Second))
	if lease(s) != 3*time.Second {
		t.Errorf("shorter, of the same directory: %v", lease(s))
	}
	s = replay(t, with("1", 3*time.Second), with("2", time.Second))
	if lease(s) != time.Second {
		t.Errorf("of another directory: %v", lease(s))
	}
	s = replay(t, with("1", 3*time.Second), Command{Profile: &Profile{Node: "a", ServerID: "1", Lease: time.Second}})
	if lease(s) != time.Second {
		t.Errorf("when the old one is over: %v", lease(s))
	}
	s = replay(t, with("1", 3*time.Second), Command{Profile: &Profile{Node: "a", ServerID: "1", Weight: 2}})
	if lease(s) != 3*time.Second {
		t.Errorf("when nothing is said: %v", lease(s))
	}
}

// A name is taken over in the term in which its node was judged, or not at all
// (rule P7).
func TestANameIsTakenOverInTheTermOfTheJudgementP7(t *testing.T) {
	s := replay(t, join("a"))
	takeover := func(term uint64) error {
		c := Command{Join: &Join{Name: "a", ServerID: "other", Listen: "a:1", Weight: 1, Term: term}}
		_, err := s.Apply(100, 7, c)
		return err
	}
	if err := takeover(6); err == nil {
		t.Error("by the word of a leader of an earlier term")
	}
	if err := takeover(7); err != nil {
		t.Error(err)
	}
}
