package raftstore

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"earshot/hashmode"

	"pgregory.net/rapid"
)

// history draws commands, sensible and not, and applies them one by one.
type history struct {
	t    *rapid.T
	term uint64
}

func (h *history) node() string {
	return rapid.SampledFrom([]string{"a", "b", "c", "d", ""}).Draw(h.t, "node")
}

func (h *history) buckets() string {
	return rapid.SampledFrom([]string{"0-7", "0", "1-3", "2,5", "7", "0-99", "x"}).Draw(h.t, "buckets")
}

func (h *history) moves() []Move {
	var moves []Move
	for range rapid.IntRange(0, 2).Draw(h.t, "moves") {
		moves = append(moves, Move{Service: "web", Buckets: h.buckets(), To: h.node()})
	}
	return moves
}

// near is a number that is mostly the given one.
func (h *history) near(n uint64, what string) uint64 {
	return n + uint64(rapid.SampledFrom([]int{0, 0, 0, 0, 1}).Draw(h.t, what))
}

// redefine changes web in some way, takes it out or brings it back.
func (h *history) redefine(s *State) Command {
	is := web(rapid.SampledFrom([]int{8, 8, 5, 16, 0}).Draw(h.t, "size"))
	is.Hash = rapid.SampledFrom(hashmode.Modes()).Draw(h.t, "hash")
	is.Ports = rapid.SampledFrom([][]string{nil, {"tcp/80"}, {"tcp/80", "udp/53"}}).Draw(h.t, "ports")
	change := Redefinition{Service: "web", Definition: &is, Seed: 3}
	if have, ok := s.Services["web"]; ok || rapid.IntRange(0, 9).Draw(h.t, "wrong") == 0 {
		change.Was = &have.Definition
		if rapid.IntRange(0, 5).Draw(h.t, "remove") == 0 {
			change.Definition = nil
		}
	}
	return Command{Redefine: &Redefine{Changes: []Redefinition{change}}}
}

func (h *history) command(s *State) Command {
	switch rapid.IntRange(0, 15).Draw(h.t, "kind") {
	case 0:
		return Command{Tick: &Tick{}}
	case 1:
		return Command{Join: &Join{Name: h.node(), ServerID: "id-" + h.node(), Listen: h.node(), Weight: 1}}
	case 2:
		return Command{Define: &Define{Definition: web(8), Seed: uint32(s.Index) + 1}}
	case 3:
		return Command{Wish: &Wish{Node: h.node(), Out: rapid.Bool().Draw(h.t, "out"), Cut: rapid.Bool().Draw(h.t, "cut")}}
	case 4:
		return Command{Pin: &Pin{Service: "web", Buckets: h.buckets(), Node: h.node()}}
	case 5:
		return Command{EndDrain: &EndDrain{Node: h.node(), Service: "web", Buckets: h.buckets(), Seen: h.near(s.Index, "seen") / 2}}
	case 6:
		return Command{Death: &Death{Node: h.node(), Term: h.near(h.term, "term"), Epoch: h.near(s.Epoch, "epoch"), Moves: h.moves()}}
	case 7:
		return Command{Return: &Return{Node: h.node(), Term: h.near(h.term, "term")}}
	case 8:
		return Command{Rest: &Rest{Node: h.node(), For: time.Duration(s.Index%3) * time.Second}}
	case 14:
		return h.redefine(s)
	case 9:
		return Command{Forget: &Forget{Node: h.node(), Term: h.near(h.term, "term"), Epoch: h.near(s.Epoch, "epoch"), Moves: h.moves()}}
	case 10:
		return Command{Formed: &Formed{Term: h.near(h.term, "term")}}
	case 11:
		n := h.node()
		return Command{Credit: &Credit{Node: n, Term: h.near(h.term, "term"), Since: s.Nodes[n].Changed, Trust: rapid.Bool().Draw(h.t, "trust"), Forgive: []string{""}}}
	case 12:
		n := h.node()
		return Command{Profile: &Profile{Node: n, ServerID: s.Nodes[n].ServerID, Weight: int(s.Index % 5), Prefer: map[string]string{"web": h.buckets()}}}
	case 13:
		return Command{Fitness: &Fitness{Node: h.node(), Unfit: map[string]string{"web": "ill"}}}
	}
	return Command{Assign: &Assign{Epoch: h.near(s.Epoch, "epoch"), Moves: h.moves()}}
}

// over runs f on every step of random histories: the state, the command, and
// what came of it.
func over(t *testing.T, f func(t *rapid.T, before *State, c Command, after *State, err error)) {
	rapid.Check(t, func(t *rapid.T) {
		h := &history{t: t, term: 1}
		s := NewState()
		for _, c := range []Command{join("a"), join("b"), {Define: &Define{Definition: web(8), Seed: 7}}} {
			s, _ = s.Apply(s.Index+1, h.term, c)
		}
		for range rapid.IntRange(1, 40).Draw(t, "length") {
			h.term += uint64(rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "elections"))
			c := h.command(s)
			next, err := s.Apply(s.Index+1, h.term, c)
			f(t, s, c, next, err)
			s = next
		}
	})
}

// copied is a deep copy, by way of the stored form.
func copied(t *rapid.T, s *State) *State {
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	c, err := DecodeState(data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEncodedStatesAreEqual(t *testing.T) {
	over(t, func(t *rapid.T, _ *State, _ Command, after *State, _ error) {
		if got := copied(t, after); !reflect.DeepEqual(got, after) {
			t.Fatalf("decoded %+v\nencoded %+v", got, after)
		}
	})
}

func TestApplyIsDeterministicAndLeavesItsInputs(t *testing.T) {
	var last, lastCopy *State
	over(t, func(t *rapid.T, before *State, c Command, after *State, err error) {
		if last == before && !reflect.DeepEqual(last, lastCopy) {
			t.Fatalf("%+v wrote to the state that it was given:\n%+v\n%+v", c, lastCopy, last)
		}
		data, encodeErr := c.Encode()
		if encodeErr != nil {
			t.Fatal(encodeErr)
		}
		// A second node: its state from a snapshot, its command from the wire,
		// and the terms of deaths as they are.
		wire, decodeErr := DecodeCommand(data)
		if decodeErr != nil {
			t.Fatal(decodeErr)
		}
		for term := uint64(1); term < 50; term++ {
			first, firstErr := before.Apply(after.Index, term, c)
			second, secondErr := copied(t, before).Apply(after.Index, term, wire)
			if !reflect.DeepEqual(first, second) || fmt.Sprint(firstErr) != fmt.Sprint(secondErr) {
				t.Fatalf("two nodes apply %+v to %+v (%v) and %+v (%v)", c, first, firstErr, second, secondErr)
			}
			if c.Death == nil && c.Return == nil && c.Formed == nil && c.Credit == nil {
				break
			}
		}
		last, lastCopy = after, copied(t, after)
	})
}

// What every state must hold, whatever the commands were.
func TestStatesAreSound(t *testing.T) {
	over(t, func(t *rapid.T, before *State, c Command, after *State, err error) {
		if after.Index != before.Index+1 || after.Epoch < before.Epoch || after.Epoch > before.Epoch+1 {
			t.Fatalf("index %d→%d, epoch %d→%d", before.Index, after.Index, before.Epoch, after.Epoch)
		}
		same := reflect.DeepEqual(before.Nodes, after.Nodes) && reflect.DeepEqual(before.Services, after.Services) && before.Formed == after.Formed
		if same != (after.Epoch == before.Epoch) && c.Pin == nil && c.Assign == nil && c.Death == nil {
			t.Fatalf("%+v: the same: %v, epoch %d→%d", c, same, before.Epoch, after.Epoch)
		}
		if err != nil && !same {
			t.Fatalf("refused (%v), and changed all the same", err)
		}
		if c.Redefine != nil {
			soundRedefinition(t, before, after)
			return
		}
		for b, slot := range after.Services["web"].Map {
			old := before.Services["web"].Map[b]
			if !slices.IsSorted(slot.From) || len(slices.Compact(slices.Clone(slot.From))) != len(slot.From) {
				t.Fatalf("bucket %d: from is no sorted set: %v", b, slot.From)
			}
			for _, n := range append([]string{slot.Owner, slot.Pin}, slot.From...) {
				if _, known := after.Nodes[n]; !known && n != "" {
					t.Fatalf("bucket %d: %s is no node: %+v", b, n, slot)
				}
			}
			if slices.Contains(slot.From, slot.Owner) {
				t.Fatalf("bucket %d: its owner is in from: %+v", b, slot)
			}
			if old.Owner != slot.Owner && slot.Since != after.Index {
				t.Fatalf("bucket %d: moved without a trace: %+v → %+v", b, old, slot)
			}
			if c.Forget == nil && old.Owner != slot.Owner && !after.Nodes[old.Owner].Failed && old.Owner != "" && !slices.Contains(slot.From, old.Owner) {
				t.Fatalf("bucket %d: its old owner is forgotten (P12): %+v → %+v", b, old, slot)
			}
			for _, n := range old.From {
				gone := !slices.Contains(slot.From, n) && slot.Owner != n
				if gone && c.EndDrain == nil && c.Death == nil && c.Forget == nil {
					t.Fatalf("bucket %d: %s left from by %+v", b, n, c)
				}
			}
		}
	})
}

// soundRedefinition demands that where packets come into other buckets, nobody
// who may have flows is left out, and everybody is waited for (rules P12, P13).
func soundRedefinition(t *rapid.T, before, after *State) {
	was, is := before.Services["web"], after.Services["web"]
	if len(is.Map) != is.Buckets {
		t.Fatalf("%d slots for %d buckets", len(is.Map), is.Buckets)
	}
	if len(was.Map) == 0 || len(is.Map) == 0 {
		return
	}
	same := was.Spec() == is.Spec() && (slices.Equal(was.Ports, is.Ports) || is.Hash == hashmode.SourceIP)
	if same != reflect.DeepEqual(was.Map, is.Map) {
		t.Fatalf("%v with %v → %v with %v: %+v → %+v", was.Spec(), was.Ports, is.Spec(), is.Ports, was.Map, is.Map)
	}
	if same {
		return
	}
	for b, slot := range is.Map {
		if slot.Since != after.Index {
			t.Fatalf("bucket %d: nobody is waited for: %+v", b, slot)
		}
		for _, old := range was.Map {
			for _, n := range append([]string{old.Owner}, old.From...) {
				if n != "" && n != slot.Owner && !after.Nodes[n].Failed && !slices.Contains(slot.From, n) {
					t.Fatalf("bucket %d: %s may have flows there: %+v", b, n, slot)
				}
			}
		}
	}
}
