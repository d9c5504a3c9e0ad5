package coordinator

import (
	"testing"

	"pgregory.net/rapid"

	"earshot/hashmode"
	"earshot/raftstore"
)

func TestRoleOfASlot(t *testing.T) {
	for name, tc := range map[string]struct {
		slot raftstore.Slot
		held map[string]uint64
		want map[string]role
	}{
		"nobody yet":                    {raftstore.Slot{}, nil, map[string]role{"a": foreign}},
		"settled":                       {raftstore.Slot{Owner: "a", Since: 5}, nil, map[string]role{"a": own, "b": foreign}},
		"not released":                  {raftstore.Slot{Owner: "a", Since: 5, From: []string{"b"}}, map[string]uint64{"b": 4}, map[string]role{"a": waiting, "b": drain}},
		"release unheard of":            {raftstore.Slot{Owner: "a", Since: 5, From: []string{"b"}}, nil, map[string]role{"a": waiting}},
		"released":                      {raftstore.Slot{Owner: "a", Since: 5, From: []string{"b"}}, map[string]uint64{"b": 5}, map[string]role{"a": inherit, "b": drain}},
		"one of two released (P12)":     {raftstore.Slot{Owner: "a", Since: 5, From: []string{"b", "c"}}, map[string]uint64{"b": 9}, map[string]role{"a": waiting, "c": drain}},
		"release of the move before":    {raftstore.Slot{Owner: "a", Since: 9, From: []string{"b", "c"}}, map[string]uint64{"b": 5, "c": 9}, map[string]role{"a": waiting}},
		"both released, one long since": {raftstore.Slot{Owner: "a", Since: 9, From: []string{"b", "c"}}, map[string]uint64{"b": 12, "c": 9}, map[string]role{"a": inherit}},
	} {
		for node, want := range tc.want {
			if got := roleOf(tc.slot, node, tc.held); got != want {
				t.Errorf("%s: %s is %d to it, want %d", name, node, got, want)
			}
		}
	}
}

// TestNeverTwoOpeners: whatever maps the nodes' kernels hold, and whatever
// stale news each has, no two nodes open flows in one bucket (I1, P12, P13).
func TestNeverTwoOpeners(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := []string{"a", "b", "c", "d"}
		h := newHistory(t)
		for _, n := range nodes {
			h.join(n, 1)
		}
		h.define("web", 6)
		states := []*raftstore.State{h.state}
		kernel := map[string]*raftstore.State{} // what each node's kernel holds
		opens := map[string]hashmode.Set{}      // and which buckets that opens
		news := map[string]map[string]uint64{}  // what each has heard
		for _, n := range nodes {
			kernel[n], news[n] = h.state, map[string]uint64{}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			n := rapid.SampledFrom(nodes).Draw(t, "node")
			switch rapid.IntRange(0, 2).Draw(t, "action") {
			case 0: // a move is committed
				b := rapid.StringMatching(`[0-5]`).Draw(t, "bucket")
				h.must(raftstore.Command{Pin: &raftstore.Pin{Service: "web", Buckets: b, Node: n}})
				states = append(states, h.state)
			case 1: // a kernel follows, as far as its node has got
				kernel[n] = states[rapid.IntRange(indexOf(states, kernel[n]), len(states)-1).Draw(t, "applied")]
			case 2: // a node hears of another's map, late perhaps
				other := rapid.SampledFrom(nodes).Draw(t, "other")
				old := states[rapid.IntRange(0, indexOf(states, kernel[other])).Draw(t, "age")]
				news[n][other] = max(news[n][other], old.Index)
			}
			v := desired(kernel[n], n, news[n], opened{}, nil).Services[0]
			opens[n] = v.Own.Union(v.Inherit)
			for i, x := range nodes {
				for _, y := range nodes[i+1:] {
					if both := opens[x].Minus(opens[x].Minus(opens[y])); !both.Empty() {
						t.Fatalf("%s and %s both open buckets %s", x, y, both)
					}
				}
			}
		}
	})
}

// TestADeadNodeOpensNothing: a node that was judged dead with nobody to give
// its buckets to still has them by the map. Heard again it is granted a lease,
// and others are given the buckets without waiting for it (P14).
func TestADeadNodeOpensNothing(t *testing.T) {
	h := newHistory(t)
	h.join("a", 1)
	h.define("web", 4)
	h.replan()
	h.die("a")
	if s := desired(h.state, "a", nil, opened{}, nil).Services[0]; !s.Own.Union(s.Inherit).Union(s.Drain).Empty() {
		t.Fatalf("a dead node opens %s, inherits %s, drains %s", s.Own, s.Inherit, s.Drain)
	}
	h.must(raftstore.Command{Return: &raftstore.Return{Node: "a", Term: testTerm}})
	if s := desired(h.state, "a", nil, opened{}, nil).Services[0]; s.Own.String() != "0-3" {
		t.Fatalf("back, it opens %q", s.Own)
	}
}

// TestRestartKeepsWhatTheKernelHasTaken: a new process knows of no release, but
// the one before it did when it took the bucket (P13).
func TestRestartKeepsWhatTheKernelHasTaken(t *testing.T) {
	h := newHistory(t)
	h.join("a", 1)
	h.join("b", 1)
	h.define("web", 3)
	h.must(raftstore.Command{Pin: &raftstore.Pin{Service: "web", Buckets: "0-2", Node: "a"}})
	h.must(raftstore.Command{Pin: &raftstore.Pin{Service: "web", Buckets: "0-1", Node: "b"}})
	before := opened{held: h.state.Index, buckets: map[string]hashmode.Set{"web": hashmode.NewSet(0, 1)}}
	if got := desired(h.state, "b", nil, before, nil).Services[0].Inherit.String(); got != "0-1" {
		t.Fatalf("b keeps %q of buckets 0-1, which it had taken", got)
	}
	h.must(raftstore.Command{Pin: &raftstore.Pin{Service: "web", Buckets: "1", Node: "a"}})
	h.must(raftstore.Command{Pin: &raftstore.Pin{Service: "web", Buckets: "1", Node: "b"}})
	if got := desired(h.state, "b", nil, before, nil).Services[0].Inherit.String(); got != "0" {
		t.Fatalf("b keeps %q, though bucket 1 was a's in between", got)
	}
}

func indexOf(states []*raftstore.State, s *raftstore.State) int {
	for i, x := range states {
		if x == s {
			return i
		}
	}
	return -1
}
