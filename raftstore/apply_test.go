package raftstore

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"earshot/hashmode"

	"pgregory.net/rapid"
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

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file of a released format, which never changes again.
func golden(t *testing.T, name string, got []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return want
}

// everyCommand has one command of each kind.
func everyCommand() []Command {
	moves := []Move{{Service: "web", Buckets: "0-3", To: "b"}}
	return []Command{
		{Tick: &Tick{}},
		{Join: &Join{Name: "a", ServerID: "id-a", Listen: "192.168.56.11:7440", Weight: 2}},
		{Define: &Define{Definition: web(8), Seed: 305419896}},
		{Wish: &Wish{Node: "a", Out: true, Cut: true}},
		{Assign: &Assign{Epoch: 4, Moves: moves}},
		{Pin: &Pin{Service: "web", Buckets: "7", Node: "b"}},
		{EndDrain: &EndDrain{Node: "a", Service: "web", Buckets: "0-1", Seen: 9}},
		{Death: &Death{Node: "a", Term: 3, Epoch: 5, Moves: moves}},
		{Return: &Return{Node: "a", Term: 3}},
		{Rest: &Rest{Node: "a", For: 3 * time.Second}},
	}
}

func TestGoldenCommands(t *testing.T) {
	for name, commands := range map[string][]Command{"commands-1.jsonl": everyCommand(), "commands-2.jsonl": format2(), "commands-3.jsonl": format3()} {
		var lines []byte
		for _, c := range commands {
			data, err := c.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := DecodeCommand(data); err != nil {
				t.Error(err)
			}
			lines = append(append(lines, data...), '\n')
		}
		want := golden(t, name, lines)
		if string(want) != string(lines) {
			t.Errorf("commands are written\n%s\nnot, as in %s,\n%s", lines, name, want)
		}
	}
}

func TestGoldenSnapshot(t *testing.T) {
	s := three(t)
	s = must(t, s, assign(s, "0-3", "b"))
	s = must(t, s, Command{Pin: &Pin{Service: "web", Buckets: "7", Node: "c"}})
	s = must(t, s, Command{Wish: &Wish{Node: "c", Out: true}})
	s = must(t, s, Command{Rest: &Rest{Node: "b", For: 3 * time.Second}})
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want := golden(t, "snapshot-1.json", data)
	if string(want) != string(data) {
		t.Errorf("a snapshot is written\n%s\nnot, as in version 1,\n%s", data, want)
	}
	got, err := DecodeState(want)
	if err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("a snapshot of version 1 is read as %+v, %v", got, err)
	}
}
