package coordinator

import (
	"maps"
	"testing"

	"pgregory.net/rapid"

	"earshot/raftstore"
)

// A change of one node's weight moves its own gain or loss, and no more.
func TestSharesFollowWeightsWithTheFewestMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := evenCluster(t)
		name := rapid.SampledFrom(h.serving()).Draw(t, "node")
		before, counts := h.owners("web"), h.counts("web")
		h.weigh(name, rapid.IntRange(0, 7).Draw(t, "weight"))
		h.replan()
		h.checkEven("web")
		moved, gained := 0, 0
		for b, owner := range h.owners("web") {
			if owner != before[b] {
				moved++
			}
		}
		for n, c := range h.counts("web") {
			gained += max(c-counts[n], 0)
		}
		if moved != gained {
			t.Fatalf("%d buckets moved where %d would do: %v, now %v", moved, gained, counts, h.counts("web"))
		}
	})
}

func TestLastResortHasBucketsOnlyWhileNobodyElseServes(t *testing.T) {
	h := newHistory(t)
	h.join("a", 2)
	h.join("b", 1)
	h.join("sorry", 0)
	h.define("web", 9)
	h.replan()
	want := func(when string, counts map[string]int) {
		t.Helper()
		if got := h.counts("web"); !maps.Equal(got, counts) {
			t.Fatalf("%s: %v, not %v", when, got, counts)
		}
	}
	want("both serve", map[string]int{"a": 6, "b": 3})
	h.die("a")
	want("a has died", map[string]int{"b": 9})
	h.must(raftstore.Command{Fitness: &raftstore.Fitness{Node: "b", Unfit: map[string]string{"web": "ill"}}})
	h.replan()
	want("b is ill, too", map[string]int{"sorry": 9})
	h.must(raftstore.Command{Fitness: &raftstore.Fitness{Node: "b"}})
	h.replan()
	want("b is well", map[string]int{"b": 9})
	h.must(raftstore.Command{Pin: &raftstore.Pin{Service: "web", Buckets: "0-1", Node: "sorry"}})
	h.replan()
	want("two are pinned to the last resort", map[string]int{"b": 7, "sorry": 2})
}

func TestLastResortsShareEvenly(t *testing.T) {
	h := newHistory(t)
	h.join("a", 0)
	h.join("b", 0)
	h.define("web", 10)
	h.replan()
	h.checkEven("web")
}
