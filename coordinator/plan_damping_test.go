package coordinator

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"earshot/hashmode"
	"earshot/raftstore"
)

// formed ends the first formation.
func (h *history) formed() {
	h.must(raftstore.Command{Formed: &raftstore.Formed{Term: testTerm}})
}

func (h *history) trust(name string) {
	h.must(raftstore.Command{Credit: &raftstore.Credit{Node: name, Term: testTerm, Since: h.state.Nodes[name].Changed, Trust: true}})
}

func (h *history) wants(t interface{ Fatalf(string, ...any) }, when string, counts map[string]int) {
	if got := h.counts("web"); !maps.Equal(got, counts) {
		t.Fatalf("%s: %v, not %v", when, got, counts)
	}
}

func TestHeldNodeIsGivenNothingThatAnotherCanHave(t *testing.T) {
	h := newHistory(t)
	h.join("a", 1)
	h.join("b", 1)
	h.define("web", 8)
	h.replan()
	h.formed()
	h.join("c", 1)
	h.replan()
	h.wants(t, "c has just come", map[string]int{"a": 4, "b": 4})
	h.die("a")
	h.wants(t, "a has died", map[string]int{"b": 8})
	h.die("b")
	h.wants(t, "b has died, too, and there is only c", map[string]int{"c": 8})
	h.must(raftstore.Command{Return: &raftstore.Return{Node: "a", Term: testTerm}})
	h.replan()
	h.wants(t, "a is back and held, as c is", map[string]int{"c": 4, "a": 4})
	h.trust("a")
	h.replan()
	h.wants(t, "a is trusted: what c has got it keeps", map[string]int{"c": 4, "a": 4})
	h.trust("c")
	h.replan()
	h.wants(t, "c is trusted", map[string]int{"c": 4, "a": 4})
}

// A held node that has more than its share gives the surplus to others, and
// gets nothing.
func TestHeldNodeKeepsNoMoreThanItsShare(t *testing.T) {
	h := newHistory(t)
	h.join("a", 1)
	h.join("b", 1)
	h.define("web", 8)
	h.replan()
	h.formed()
	h.die("a")
	h.must(raftstore.Command{Return: &raftstore.Return{Node: "a", Term: testTerm}})
	h.die("b")
	h.wants(t, "b has died", map[string]int{"a": 8})
	h.must(raftstore.Command{Return: &raftstore.Return{Node: "b", Term: testTerm}})
	h.trust("b")
	h.replan()
	h.wants(t, "b is trusted before a", map[string]int{"a": 4, "b": 4})
}

// With little leeway the plan goes on in the next round, and gets there with
// less than twice the moves that it takes without a bound: who is to have what
// is decided anew each time.
func TestLittleLeewayTakesMoreRoundsAndFewMoreMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := evenCluster(t)
		if rapid.Bool().Draw(t, "a node comes") {
			h.join("zz", rapid.IntRange(1, 3).Draw(t, "weight"))
		} else {
			h.weigh("n0", rapid.IntRange(0, 4).Draw(t, "weight"))
		}
		for _, name := range h.state.NodeNames() {
			h.randomPreference(t, name)
		}
		way := leeway{even: true, most: rapid.IntRange(1, 20).Draw(t, "most")}
		total, needed := 0, movesIn(plan(h.state, idle, leeway{even: true}))
		for {
			moves := plan(h.state, idle, way)
			n := movesIn(moves)
			if n == 0 {
				break
			}
			if n > way.most || len(plan(h.state, idle, orphansAlone())) > 0 {
				t.Fatalf("%d moves with leeway for %d, or orphans", n, way.most)
			}
			h.must(raftstore.Command{Assign: &raftstore.Assign{Epoch: h.state.Epoch, Moves: moves}})
			if total += n; total > 2*needed {
				t.Fatalf("%d moves and no end: %d would do", total, needed)
			}
		}
		h.checkEven("web")
		if again := plan(h.state, idle, leeway{even: true}); len(again) > 0 {
			t.Fatalf("not at rest: %v", again)
		}
		h.checkPreferences(t)
	})
}

func movesIn(moves []raftstore.Move) int {
	n := 0
	for _, m := range moves {
		set, _ := hashmode.ParseSet(m.Buckets, hashmode.MaxBuckets)
		n += set.Len()
	}
	return n
}

// randomPreference has a node prefer some buckets, as its file may say.
func (h *history) randomPreference(t *rapid.T, name string) {
	if !rapid.Bool().Draw(t, name+" prefers") {
		return
	}
	first := rapid.IntRange(0, 50).Draw(t, "first")
	text := hashmode.Range(hashmode.Bucket(first), hashmode.Bucket(first+rapid.IntRange(0, 100).Draw(t, "more"))).String()
	h.prefer(name, text)
}

func (h *history) prefer(name, text string) {
	h.must(raftstore.Command{Profile: &raftstore.Profile{
		Node: name, ServerID: "id-" + name, Weight: h.state.Nodes[name].Weight, Prefer: map[string]string{"web": text},
	}})
}

// checkPreferences demands that no node has a bucket that it does not prefer
// while another, who may have it, has one that it does, unless a third comes
// first by name.
func (h *history) checkPreferences(t *rapid.T) {
	m := h.state.Services["web"].Map
	wants := map[string]hashmode.Set{}
	for name, n := range h.state.Nodes {
		wants[name], _ = hashmode.ParseSet(n.Prefer["web"], hashmode.MaxBuckets)
	}
	takers := takersOf(h.state, h.serving())
	for i, name := range takers {
		others := func(b hashmode.Bucket) bool { // who are heeded before
			return slices.ContainsFunc(takers[:i], func(o string) bool { return wants[o].Has(b) })
		}
		spare, missing := -1, -1
		for b, slot := range m {
			mine := wants[name].Has(hashmode.Bucket(b))
			switch {
			case slot.Owner == name && !mine:
				spare = b
			case slot.Owner != name && mine && !others(hashmode.Bucket(b)):
				missing = b
			}
		}
		if spare >= 0 && missing >= 0 {
			t.Fatalf("%s has bucket %d and not %d, which it would rather have", name, spare, missing)
		}
	}
}

func TestPreferSaysWhichBucketsAndNotHowMany(t *testing.T) {
	h := newHistory(t)
	for _, n := range []string{"a", "b", "c"} {
		h.join(n, 1)
	}
	h.define("web", 12)
	h.replan()
	h.prefer("b", "0-2")
	h.replan()
	h.checkEven("web")
	owners := h.owners("web")
	if !slices.Equal(owners[:3], []string{"b", "b", "b"}) {
		t.Fatalf("b would rather have 0-2: %v", owners)
	}
	h.prefer("c", "0-11")
	h.replan()
	h.checkEven("web")
	h.die("b")
	h.must(raftstore.Command{Return: &raftstore.Return{Node: "b", Term: testTerm}})
	h.replan()
	h.checkEven("web")
	if owners := h.owners("web"); !slices.Equal(owners[:3], []string{"b", "b", "b"}) {
		t.Fatalf("b is back and would rather have 0-2: %v", owners)
	}
}

func TestSpentBucketsStay(t *testing.T) {
	h := newHistory(t)
	h.join("a", 1)
	h.define("web", 8)
	h.replan()
	h.join("b", 1)
	way := leeway{even: true, most: 8, spent: map[string]hashmode.Set{"web": hashmode.Range(0, 5)}}
	moves := plan(h.state, idle, way)
	if len(moves) != 1 || moves[0].String() != "web 6-7 to b" {
		t.Fatalf("moves %v", moves)
	}
	if moves := plan(h.state, idle, leeway{}); len(moves) != 0 {
		t.Fatalf("shares are evened out without leeway: %v", moves)
	}
	if got := fmt.Sprint(plan(h.state.Without("a"), idle, leeway{})); got != "[web 0-7 to b]" {
		t.Fatalf("orphans wait: %v", got)
	}
}
