package coordinator

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"earshot/hashmode"
	"earshot/raftstore"
)

// history is a state with the log that made it: commands are applied as the
// leader would have them committed.
type history struct {
	t     interface{ Fatalf(string, ...any) }
	state *raftstore.State
	term  uint64
}

func newHistory(t interface{ Fatalf(string, ...any) }) *history {
	return &history{t: t, state: raftstore.NewState(), term: testTerm}
}

const testTerm = 3

// apply commits a command and returns its error.
func (h *history) apply(c raftstore.Command) error {
	next, err := h.state.Apply(h.state.Index+1, h.term, c)
	h.state = next
	return err
}

// must commits a command that has to work.
func (h *history) must(c raftstore.Command) {
	if err := h.apply(c); err != nil {
		h.t.Fatalf("apply %+v: %v", c, err)
	}
}

func (h *history) join(name string, weight int) {
	h.must(raftstore.Command{Join: &raftstore.Join{Name: name, ServerID: "id-" + name, Listen: name + ":7440", Weight: weight}})
}

func (h *history) define(name string, buckets int) {
	h.must(raftstore.Command{Define: &raftstore.Define{Seed: 7, Definition: testDefinition(name, buckets)}})
}

// pin moves buckets of web by hand.
func (h *history) pin(buckets, node string) {
	h.must(raftstore.Command{Pin: &raftstore.Pin{Service: "web", Buckets: buckets, Node: node}})
}

func (h *history) weigh(name string, weight int) {
	h.must(raftstore.Command{Profile: &raftstore.Profile{Node: name, ServerID: "id-" + name, Weight: weight}})
}

func testDefinition(name string, buckets int) raftstore.Definition {
	return raftstore.Definition{
		Name: name, Address: netip.MustParsePrefix("192.0.2.20/24"), Interface: "eth1",
		Hash: hashmode.SourceIP, Ports: []string{"tcp/" + fmt.Sprint(len(name))}, Buckets: buckets,
		MAC: "01:00:5e:00:02:14", MACMode: "multicast", Drain: time.Minute, OnFail: "drain", QuorumLoss: "fence",
	}
}

func idle(string, hashmode.Bucket) bool { return false }

// replan plans as the leader does and commits the plan.
func (h *history) replan() []raftstore.Move {
	moves := plan(h.state, idle, leeway{even: true})
	if len(moves) > 0 {
		h.must(raftstore.Command{Assign: &raftstore.Assign{Epoch: h.state.Epoch, Moves: moves}})
	}
	return moves
}

// counts is how many buckets each node owns of a service.
func (h *history) counts(service string) map[string]int {
	n := map[string]int{}
	for _, slot := range h.state.Services[service].Map {
		n[slot.Owner]++
	}
	return n
}

func (h *history) serving() []string { return serving(h.state, "web") }

// checkEven demands that every bucket has an owner that serves and that
// shares differ from the exact one by less than a bucket (I2).
func (h *history) checkEven(service string) {
	nodes, counts := takersOf(h.state, h.serving()), h.counts(service)
	total, sum := 0, 0
	for _, n := range nodes {
		total += h.state.Nodes[n].Weight
		sum += counts[n]
	}
	buckets := len(h.state.Services[service].Map)
	if sum != buckets {
		h.t.Fatalf("%s: %d of %d buckets have an owner that serves: %v", service, sum, buckets, counts)
	}
	for _, n := range nodes {
		exact := float64(buckets) / float64(len(nodes))
		if total > 0 {
			exact = float64(buckets) * float64(h.state.Nodes[n].Weight) / float64(total)
		}
		if d := float64(counts[n]) - exact; d <= -1 || d >= 1 {
			h.t.Fatalf("%s: %s has %d buckets, exactly %.2f were even: %v", service, n, counts[n], exact, counts)
		}
	}
}

// owners is a copy of a service's owners.
func (h *history) owners(service string) []string {
	var all []string
	for _, slot := range h.state.Services[service].Map {
		all = append(all, slot.Owner)
	}
	return all
}

func TestPlanKeepsSharesEvenOverRandomHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t)
		h.join("n0", 1)
		buckets := rapid.IntRange(1, 200).Draw(t, "buckets")
		h.define("web", buckets)
		h.define("mail", rapid.IntRange(1, 64).Draw(t, "buckets of mail"))
		h.replan()
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			h.randomStep(t)
			h.replan()
			h.checkEven("web")
			h.checkEven("mail")
			if again := plan(h.state, idle, leeway{even: true}); len(again) != 0 {
				t.Fatalf("a second plan still moves: %v", again)
			}
		}
	})
}

// randomStep joins, takes out, brings in, kills or revives a node.
func (h *history) randomStep(t *rapid.T) {
	name := fmt.Sprintf("n%d", rapid.IntRange(0, 6).Draw(t, "node"))
	n, known := h.state.Nodes[name]
	switch {
	case !known:
		h.join(name, rapid.IntRange(0, 4).Draw(t, "weight"))
	case n.Failed:
		h.must(raftstore.Command{Return: &raftstore.Return{Node: name, Term: testTerm}})
	case n.Out:
		h.must(raftstore.Command{Wish: &raftstore.Wish{Node: name}})
	case rapid.Bool().Draw(t, "changes weight"):
		h.weigh(name, rapid.IntRange(0, 4).Draw(t, "weight"))
	case len(h.serving()) < 2:
	case rapid.Bool().Draw(t, "dies"):
		h.die(name)
	default:
		h.must(raftstore.Command{Wish: &raftstore.Wish{Node: name, Out: true}})
	}
}

func (h *history) die(name string) {
	h.must(raftstore.Command{Death: &raftstore.Death{
		Node: name, Term: testTerm, Epoch: h.state.Epoch, Moves: deathPlan(h.state, name),
	}})
}

func TestOutMovesTheLeavingNodesBucketsAndNoOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := evenCluster(t)
		leaver := rapid.SampledFrom(h.serving()).Draw(t, "leaver")
		before := h.owners("web")
		h.must(raftstore.Command{Wish: &raftstore.Wish{Node: leaver, Out: true}})
		h.replan()
		h.checkEven("web")
		for b, owner := range h.owners("web") {
			if owner != before[b] && before[b] != leaver {
				t.Fatalf("bucket %d moved from %s to %s, though %s left", b, before[b], owner, leaver)
			}
		}
	})
}

func TestDeathMovesTheDeadNodesBucketsAndNoOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := evenCluster(t)
		dead := rapid.SampledFrom(h.serving()).Draw(t, "dead")
		before := h.owners("web")
		h.die(dead)
		h.checkEven("web")
		for b, slot := range h.state.Services["web"].Map {
			if slot.Owner != before[b] && before[b] != dead {
				t.Fatalf("bucket %d moved from %s to %s, though %s died", b, before[b], slot.Owner, dead)
			}
			if slices.Contains(slot.From, dead) {
				t.Fatalf("bucket %d waits for %s, which is dead (P14)", b, dead)
			}
		}
	})
}

func TestInMovesOnlyWhatEvensTheShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := evenCluster(t)
		before, counts := h.owners("web"), h.counts("web")
		h.join("zz", 1)
		h.replan()
		h.checkEven("web")
		after := h.counts("web")
		for b, owner := range h.owners("web") {
			if owner != before[b] && owner != "zz" {
				t.Fatalf("bucket %d moved from %s to %s, though zz came", b, before[b], owner)
			}
		}
		for n, had := range counts {
			if after[n] > had {
				t.Fatalf("%s gained buckets (%d, now %d), though zz came", n, had, after[n])
			}
		}
	})
}

// evenCluster is a cluster of at least two nodes of weight 1 with even shares.
func evenCluster(t *rapid.T) *history {
	h := newHistory(t)
	for i := range rapid.IntRange(2, 9).Draw(t, "nodes") {
		h.join(fmt.Sprintf("n%d", i), 1)
	}
	h.define("web", rapid.IntRange(1, 300).Draw(t, "buckets"))
	h.replan()
	return h
}

func TestInDuringADrainTurnsBackCleanly(t *testing.T) {
	h := newHistory(t)
	for _, n := range []string{"a", "b", "c"} {
		h.join(n, 1)
	}
	h.define("web", 90)
	h.replan()
	before := h.owners("web")
	h.must(raftstore.Command{Wish: &raftstore.Wish{Node: "b", Out: true}})
	h.replan()
	h.must(raftstore.Command{Wish: &raftstore.Wish{Node: "b"}})
	h.replan()
	if after := h.owners("web"); !slices.Equal(before, after) {
		t.Fatalf("b did not get back the buckets in which it has flows:\nbefore %v\nafter  %v", before, after)
	}
}

func TestPlanLeavesBusyBucketsUnlessTheirOwnerFailed(t *testing.T) {
	h := newHistory(t)
	h.join("a", 1)
	h.define("web", 8)
	h.replan()
	h.join("b", 1)
	busy := func(_ string, b hashmode.Bucket) bool { return b >= 2 }
	for _, m := range plan(h.state, busy, leeway{even: true}) {
		set, _ := hashmode.ParseSet(m.Buckets, 8)
		for b := range set.All() {
			if b >= 2 {
				t.Fatalf("bucket %d moves though its last move is not taken yet (P15)", b)
			}
		}
	}
	moves := plan(h.state.Without("a"), busy, orphansAlone())
	if len(moves) != 1 || moves[0].Buckets != "0-7" || moves[0].To != "b" {
		t.Fatalf("the dead node's buckets do not all move at once: %v", moves)
	}
}

func TestPinnedBucketsStayWithTheirNodeWhileItServes(t *testing.T) {
	h := newHistory(t)
	for _, n := range []string{"a", "b", "c"} {
		h.join(n, 1)
	}
	h.define("web", 9)
	h.replan()
	h.must(raftstore.Command{Pin: &raftstore.Pin{Service: "web", Buckets: "0-5", Node: "c"}})
	h.replan()
	if got := h.counts("web"); !maps.Equal(got, map[string]int{"a": 2, "b": 1, "c": 6}) &&
		!maps.Equal(got, map[string]int{"a": 1, "b": 2, "c": 6}) {
		t.Fatalf("shares with six pinned buckets: %v", got)
	}
	h.die("c")
	if got := h.counts("web"); got["c"] != 0 || got["a"] < 4 || got["b"] < 4 {
		t.Fatalf("shares after the death of the node with pinned buckets: %v", got)
	}
	h.must(raftstore.Command{Return: &raftstore.Return{Node: "c", Term: testTerm}})
	h.replan()
	for b := range 6 {
		if slot := h.state.Services["web"].Map[b]; slot.Owner != "c" {
			t.Fatalf("pinned bucket %d is with %s after its node came back", b, slot.Owner)
		}
	}
}

func TestPlanMovesNothingWithoutANodeThatServes(t *testing.T) {
	h := newHistory(t)
	h.join("a", 1)
	h.define("web", 4)
	h.replan()
	if moves := deathPlan(h.state, "a"); len(moves) != 0 {
		t.Fatalf("moves with nobody to move to: %v", moves)
	}
}

func TestUnfitNodeGivesUpThatServiceAlone(t *testing.T) {
	h := newHistory(t)
	for _, n := range []string{"a", "b", "c"} {
		h.join(n, 1)
	}
	h.define("web", 9)
	h.define("mail", 9)
	h.replan()
	mail := h.owners("mail")
	h.must(raftstore.Command{Fitness: &raftstore.Fitness{Node: "b", Unfit: map[string]string{"web": "no carrier"}}})
	h.replan()
	if got := h.counts("web"); got["b"] != 0 || got["a"]+got["c"] != 9 {
		t.Fatalf("shares of the service that b cannot serve: %v", got)
	}
	if !slices.Equal(h.owners("mail"), mail) {
		t.Fatal("buckets of the service that b can serve moved")
	}
	h.must(raftstore.Command{Fitness: &raftstore.Fitness{Node: "b"}})
	h.replan()
	h.checkEven("web")
}

func TestServiceThatNobodyCanServeStaysWhereItIs(t *testing.T) {
	h := newHistory(t)
	h.join("a", 1)
	h.define("web", 9)
	h.replan()
	h.must(raftstore.Command{Fitness: &raftstore.Fitness{Node: "a", Unfit: map[string]string{"web": "no carrier"}}})
	if moves := plan(h.state, idle, leeway{even: true}); len(moves) != 0 {
		t.Fatalf("moves to nobody: %v", moves)
	}
}

func TestRestartingNodeKeepsItsShareAndIsGivenNothing(t *testing.T) {
	h := newHistory(t)
	for _, n := range []string{"a", "b", "c"} {
		h.join(n, 1)
	}
	h.define("web", 9)
	h.replan()
	before := h.owners("web")
	h.must(raftstore.Command{Rest: &raftstore.Rest{Node: "c", For: time.Second, By: 1}})
	h.must(raftstore.Command{Wish: &raftstore.Wish{Node: "b", Out: true}})
	h.replan()
	for b, owner := range h.owners("web") {
		if before[b] == "c" && owner != "c" || before[b] != "c" && owner != "a" {
			t.Fatalf("bucket %d went from %s to %s while b left and c was restarting", b, before[b], owner)
		}
	}
	h.must(raftstore.Command{Rest: &raftstore.Rest{Node: "c"}})
	h.replan()
	if got := h.counts("web"); got["a"] != 5 && got["a"] != 4 {
		t.Fatalf("shares after the restart: %v", got)
	}
}
