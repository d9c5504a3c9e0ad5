package raftstore

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"earshot/hashmode"
)

// replay applies commands to the empty state, in entries 1, 2, … of term 1.
func replay(t *testing.T, commands ...Command) *State {
	t.Helper()
	s := NewState()
	for _, c := range commands {
		s = must(t, s, c)
	}
	return s
}

// must applies a command that has to succeed, in the next entry of term 1.
func must(t *testing.T, s *State, c Command) *State {
	t.Helper()
	next, err := s.Apply(s.Index+1, 1, c)
	if err != nil {
		t.Fatalf("apply %+v: %v", c, err)
	}
	return next
}

func join(name string) Command {
	return Command{Join: &Join{Name: name, ServerID: "id-" + name, Listen: name, Weight: 1}}
}

func web(buckets int) Definition {
	return Definition{
		Name: "web", Address: netip.MustParsePrefix("192.168.56.20/24"), Interface: "eth1",
		Hash: hashmode.SourceIP, Ports: []string{"tcp/443", "tcp/80"}, Buckets: buckets,
		MAC: "01:00:5e:28:38:14", MACMode: "multicast", Drain: 10 * time.Minute,
		OnFail: "drain", QuorumLoss: "fence",
	}
}

func assign(s *State, buckets, to string) Command {
	return Command{Assign: &Assign{Epoch: s.Epoch, Moves: []Move{{Service: "web", Buckets: buckets, To: to}}}}
}

// three is a state of nodes a, b and c in which a owns all of web's 8 buckets.
func three(t *testing.T) *State {
	s := replay(t, join("a"), join("b"), join("c"), Command{Define: &Define{Definition: web(8), Seed: 7}})
	return must(t, s, assign(s, "0-7", "a"))
}

func TestP12AMoveAddsToFrom(t *testing.T) {
	s := three(t)
	s = must(t, s, assign(s, "3", "b"))
	s = must(t, s, assign(s, "3", "c"))
	slot := s.Services["web"].Map[3]
	if slot.Owner != "c" || !slices.Equal(slot.From, []string{"a", "b"}) || slot.Since != s.Index {
		t.Errorf("after a→b→c: %+v", slot)
	}
	s = must(t, s, assign(s, "3", "a"))
	slot = s.Services["web"].Map[3]
	if slot.Owner != "a" || !slices.Equal(slot.From, []string{"b", "c"}) {
		t.Errorf("back at a: %+v", slot)
	}
}

func TestP14ADeathMovesAndEndsDrainsInOneEntry(t *testing.T) {
	s := three(t)
	s = must(t, s, assign(s, "0-3", "b")) // from a
	s = must(t, s, Command{Death: &Death{Node: "a", Term: 1, Epoch: s.Epoch, Moves: []Move{{Service: "web", Buckets: "4-7", To: "c"}}}})
	if !s.Nodes["a"].Failed || s.Nodes["a"].Changed != s.Index {
		t.Errorf("a is %+v", s.Nodes["a"])
	}
	for b, slot := range s.Services["web"].Map {
		want := "b"
		if b > 3 {
			want = "c"
		}
		if slot.Owner != want || len(slot.From) > 0 {
			t.Errorf("bucket %d: %+v, want owner %s and nobody in from", b, slot, want)
		}
	}
}

// When the last node dies there is nobody to move its buckets to. Whoever gets
// them later must not wait for the dead node to release them.
func TestP14ADeadOwnerIsNotWaitedFor(t *testing.T) {
	s := three(t)
	s = must(t, s, Command{Death: &Death{Node: "a", Term: 1, Epoch: s.Epoch}})
	s = must(t, s, assign(s, "0-7", "b"))
	if slot := s.Services["web"].Map[0]; slot.Owner != "b" || len(slot.From) > 0 {
		t.Errorf("bucket of a node that is dead: %+v", slot)
	}
}

func TestP14ADeathThatCannotMoveChangesNothing(t *testing.T) {
	s := three(t)
	_, err := s.Apply(s.Index+1, 1, Command{Death: &Death{Node: "a", Term: 1, Epoch: s.Epoch, Moves: []Move{{Service: "web", Buckets: "0-7", To: "a"}}}})
	if !errors.Is(err, ErrNotServing) {
		t.Errorf("buckets of the dead given to the dead: %v", err)
	}
}

func TestP15APlanOfAnotherEpochIsRefused(t *testing.T) {
	s := three(t)
	stale := assign(s, "1", "b")
	s = must(t, s, assign(s, "0", "c"))
	next, err := s.Apply(s.Index+1, 1, stale)
	if !errors.Is(err, ErrStale) {
		t.Fatalf("stale plan: %v", err)
	}
	if next.Index != s.Index+1 || next.Epoch != s.Epoch || next.Services["web"].Map[1].Owner != "a" {
		t.Errorf("stale plan left index %d, epoch %d, %+v", next.Index, next.Epoch, next.Services["web"].Map[1])
	}
}

func TestP7AJudgementOfAnotherTermDoesNothing(t *testing.T) {
	s := three(t)
	for _, c := range []Command{
		{Death: &Death{Node: "a", Term: 2, Epoch: s.Epoch}},
		{Return: &Return{Node: "a", Term: 2}},
	} {
		for _, term := range []uint64{1, 3} {
			next, err := s.Apply(s.Index+1, term, c)
			if !errors.Is(err, ErrTerm) || next.Epoch != s.Epoch {
				t.Errorf("judged in term 2, applied in term %d: %v", term, err)
			}
		}
	}
}

func TestEndDrainIsNotForALaterMove(t *testing.T) {
	s := three(t)
	s = must(t, s, assign(s, "0-1", "b"))
	seen := s.Index // here a had no flow left
	s = must(t, s, assign(s, "0", "a"))
	s = must(t, s, assign(s, "0", "b")) // a may have flows again
	s = must(t, s, Command{EndDrain: &EndDrain{Node: "a", Service: "web", Buckets: "0-1", Seen: seen}})
	if slot := s.Services["web"].Map[0]; !slices.Equal(slot.From, []string{"a"}) {
		t.Errorf("late end of the drain before last: %+v", slot)
	}
	if slot := s.Services["web"].Map[1]; len(slot.From) != 0 {
		t.Errorf("end of a drain: %+v", slot)
	}
}

func TestANewDiskIsANewIncarnation(t *testing.T) {
	s := three(t)
	s = must(t, s, Command{Death: &Death{Node: "a", Term: 1, Epoch: s.Epoch, Moves: []Move{{Service: "web", Buckets: "0-7", To: "b"}}}})
	s = must(t, s, Command{Join: &Join{Name: "a", ServerID: "new", Listen: "a", Weight: 1}})
	if n := s.Nodes["a"]; n.Failed || n.ServerID != "new" || n.Changed != s.Index {
		t.Errorf("after a new disk: %+v", n)
	}
}
