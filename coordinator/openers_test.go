package coordinator

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"earshot/hashmode"
	"earshot/nft"
	"earshot/raftstore"
)

// openers is a model of a cluster's kernels: whatever maps they hold, and
// whatever stale news each node has, no two open flows in one bucket (I1).
type openers struct {
	*rapid.T
	*history
	nodes  []string
	states []*raftstore.State
	kernel map[string]nft.Ruleset
	news   map[string]levels
	leased map[string]bool
	// answered: the kernel has had a lease since it came up.
	answered map[string]bool
}

func TestNeverTwoOpeners(t *testing.T) {
	for range 20 { // a hundred histories each: most rules are missed by one in some hundred
		rapid.Check(t, neverTwoOpeners)
	}
}

func neverTwoOpeners(t *rapid.T) {
	o := &openers{T: t, history: newHistory(t), nodes: []string{"a", "b", "c"}, kernel: map[string]nft.Ruleset{}, news: map[string]levels{}, leased: map[string]bool{}, answered: map[string]bool{}}
	for _, n := range o.nodes {
		o.join(n, 1)
		o.news[n] = levels{}
	}
	o.define("web", 2)
	o.states = append(o.states, o.state)
	t.Repeat(map[string]func(*rapid.T){
		"move": func(t *rapid.T) {
			to := rapid.SampledFrom(o.nodes).Draw(t, "to")
			_ = o.apply(raftstore.Command{Pin: &raftstore.Pin{Service: "web", Buckets: rapid.StringMatching(`[01]`).Draw(t, "bucket"), Node: to}})
		},
		// Kernels follow, as far as their nodes have got.
		"follow": func(t *rapid.T) {
			for _, n := range o.nodes {
				if rapid.Bool().Draw(t, n) {
					o.follow(t, n)
				}
			}
		},
		"hear": func(t *rapid.T) {
			n := rapid.SampledFrom(append(o.nodes, "all")).Draw(t, "node")
			for _, other := range o.nodes {
				said := o.level(other)
				if rapid.Bool().Draw(t, "late") { // and so older
					said.Held -= min(said.Held, 1)
					said.Released = min(said.Released, said.Held)
				}
				for _, to := range o.nodes {
					if n == to || n == "all" {
						o.news[to][other] = o.news[to][other].max(said)
					}
				}
			}
		},
		// Leases are for the newest map (P3).
		"lease": func(*rapid.T) {
			for _, n := range o.nodes {
				o.leased[n] = o.leased[n] || o.kernel[n].Index == o.state.Index
				o.answered[n] = o.answered[n] || o.leased[n]
			}
		},
		"lose":    func(t *rapid.T) { o.leased[rapid.SampledFrom(o.nodes).Draw(t, "node")] = false },
		"restart": func(t *rapid.T) { o.news[rapid.SampledFrom(o.nodes).Draw(t, "node")] = levels{} },
		"reboot": func(t *rapid.T) {
			n := rapid.SampledFrom(o.nodes).Draw(t, "node")
			o.kernel[n], o.news[n], o.leased[n], o.answered[n] = nft.Ruleset{}, levels{}, false, false
		},
		// A node without a lease is judged dead, and comes back with the map.
		"die": func(t *rapid.T) {
			n := rapid.SampledFrom(o.nodes).Draw(t, "node")
			if o.leased[n] || o.state.Nodes[n].Failed {
				t.Skip("not to be judged")
			}
			o.must(raftstore.Command{Death: &raftstore.Death{Node: n, Term: testTerm, Epoch: o.state.Epoch, Moves: deathPlan(o.state, n)}})
		},
		"return": func(t *rapid.T) {
			n := rapid.SampledFrom(o.nodes).Draw(t, "node")
			if !o.state.Nodes[n].Failed || o.kernel[n].Index < o.state.Nodes[n].Changed {
				t.Skip("not to return")
			}
			o.must(raftstore.Command{Return: &raftstore.Return{Node: n, Term: testTerm}})
		},
		// With a new disk it comes back without having held that map.
		"new disk": func(t *rapid.T) {
			n := rapid.SampledFrom(o.nodes).Draw(t, "node")
			if !o.state.Nodes[n].Failed {
				t.Skip("may be alive")
			}
			o.must(raftstore.Command{Join: &raftstore.Join{Name: n, ServerID: o.state.Nodes[n].ServerID + "+", Listen: n + ":7440", Weight: 1}})
			o.news[n] = levels{}
		},
		"end of a drain": func(t *rapid.T) {
			n := rapid.SampledFrom(o.nodes).Draw(t, "node")
			_ = o.apply(raftstore.Command{EndDrain: &raftstore.EndDrain{Node: n, Service: "web", Buckets: "0-1", Seen: o.level(n).Released}})
		},
		"": func(t *rapid.T) {
			if o.states[len(o.states)-1] != o.state {
				o.states = append(o.states, o.state)
			}
			o.check(t)
		},
	})
}

func (o *openers) follow(t *rapid.T, node string) {
	first, last := 0, len(o.states)-1
	for o.states[first].Index < o.kernel[node].Index { // from the beginning, in a kernel that knows nothing
		first++
	}
	if !rapid.Bool().Draw(t, "to the end") {
		last = rapid.IntRange(first, last).Draw(t, "state")
	}
	before := openedBy(o.kernel[node])
	before.answered = o.answered[node]
	o.kernel[node] = desired(o.states[last], node, knowledge{levels: o.news[node], opened: before})
}

// level is how far the node's kernel is.
func (o *openers) level(node string) level {
	rs := o.kernel[node]
	i := slices.IndexFunc(o.states, func(s *raftstore.State) bool { return s.Index == rs.Index })
	if i < 0 {
		return level{}
	}
	return level{Held: rs.Index, Released: releasedUnder(o.states[i], node, openedBy(rs))}
}

func (o *openers) check(t *rapid.T) {
	opens := map[string]hashmode.Set{}
	for n, rs := range o.kernel {
		if o.leased[n] {
			opens[n] = openedBy(rs).buckets["web"]
		}
	}
	for i, x := range o.nodes {
		for _, y := range o.nodes[i+1:] {
			if both := opens[x].Intersect(opens[y]); !both.Empty() {
				t.Fatalf("%s with map %d and %s with map %d both open buckets %s", x, o.kernel[x].Index, y, o.kernel[y].Index, both)
			}
		}
	}
}
