package coordinator

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"earshot/hashmode"
	"earshot/nft"
	"earshot/raftstore"
)

func TestRunnableTasks(t *testing.T) {
	for text, want := range map[string]int{
		"0.20 0.18 0.12 3/80 11206\n": 3, "71.69 60.44 37.95 0/1 1": 0,
		"": -1, "0.20 0.18 0.12": -1, "0.20 0.18 0.12 x/80 1": -1, "0.20 0.18 0.12 3 1": -1, "0 0 0 -3/80 1": -1,
	} {
		got, ok := runnable(text)
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: %d, %v", text, got, ok)
		}
	}
	var q runQueue
	if got := q.look(time.Now()); got < 0 {
		t.Errorf("run queue %v", got)
	}
}

// heated are peers that answer for their buckets' load.
type heated struct{ troupe *troupe }

func (h heated) Call(_ context.Context, addr, path string, _, answer any) error {
	a, ok := answer.(*heatAnswer)
	if path != pathHeat || !ok {
		return errors.New("nobody there")
	}
	*a = heatAnswer{Heat: map[string]map[hashmode.Bucket]float64{"web": h.troupe.heatOf(addr[:1])}}
	return nil
}

// heatOf is what a node's buckets have to do: its flows are where its buckets
// are.
func (p *troupe) heatOf(name string) map[hashmode.Bucket]float64 {
	heat := map[hashmode.Bucket]float64{}
	for b, slot := range p.modelStore.State().Services["web"].Map {
		if slot.Owner == name {
			heat[hashmode.Bucket(b)] = p.rate(hashmode.Bucket(b))
		}
	}
	return heat
}

// hotThird is a load of which a third of the buckets has most.
func hotThird(b hashmode.Bucket) float64 {
	if b < 300 {
		return 30
	}
	return 10
}

// BucketLoad implements BucketLoad for node a.
func (p *troupe) BucketLoad([]nft.Service) (map[string]map[hashmode.Bucket]float64, error) {
	return map[string]map[hashmode.Bucket]float64{"web": p.heatOf("a")}, nil
}

// performByLoad is a cluster whose service goes by load; a has the hot buckets.
func performByLoad(t *testing.T, rate func(hashmode.Bucket) float64) *troupe {
	h := newHistory(t)
	for _, n := range []string{"a", "b", "c"} {
		h.join(n, 1)
	}
	d := testDefinition("web", 900)
	d.Balance = raftstore.BalanceLoad
	h.must(raftstore.Command{Define: &raftstore.Define{Seed: 7, Definition: d}})
	h.must(raftstore.Command{Assign: &raftstore.Assign{Epoch: h.state.Epoch, Moves: []raftstore.Move{
		{Service: "web", Buckets: "0-299", To: "a"}, {Service: "web", Buckets: "300-599", To: "b"}, {Service: "web", Buckets: "600-899", To: "c"},
	}}})
	h.formed()
	return performWith(t, h, someDamping(), rate)
}

// use is each node's part of the load.
func (p *troupe) use() map[string]float64 {
	use := map[string]float64{}
	total := 0.0
	for b, slot := range p.modelStore.State().Services["web"].Map {
		use[slot.Owner] += p.rate(hashmode.Bucket(b))
		total += p.rate(hashmode.Bucket(b))
	}
	for n := range use {
		use[n] *= 3 / total
	}
	return use
}

// The leader evens out a skewed load, within the bound, and what it has
// shifted stays, through an election and a node's absence, too.
func TestLeaderEvensOutASkewedLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := performByLoad(t, hotThird)
		defer p.stop()
		even := func(when string) {
			t.Helper()
			for n, use := range p.use() {
				if use < 1-hotter || use > 1+hotter {
					t.Errorf("%s: %s has %.2f of an even part of the load", when, n, use)
				}
			}
		}
		time.Sleep(5 * time.Minute)
		even("after five minutes")
		p.checkShifts()
		p.checkPace()
		before := len(p.logged())
		time.Sleep(2 * time.Minute)
		if after := p.logged()[before:]; len(evenings(after)) > 0 {
			t.Errorf("still moving after five minutes: %v", evenings(after))
		}
		shares := p.modelStore.State().Services["web"].Shares
		if shares["a"].Buckets >= 300 || shares["a"].Buckets+shares["b"].Buckets+shares["c"].Buckets != 900 {
			t.Errorf("shares %v", shares)
		}
		p.modelStore.elect()
		time.Sleep(30 * time.Second)
		if after := p.logged()[before:]; len(evenings(after)) > 0 {
			t.Errorf("another leader moves %v", evenings(after))
		}
		for _, out := range []bool{true, false} {
			if _, err := p.c.wish(t.Context(), WishRequest{Node: "c", Out: out}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Minute)
		}
		even("after c was out")
	})
}

// checkShifts demands the bound that shiftMost states.
func (p *troupe) checkShifts() {
	p.t.Helper()
	var times []time.Time
	last := map[hashmode.Bucket]time.Time{}
	for _, e := range p.logged() {
		if e.command.Assign == nil || e.command.Assign.Shares == nil {
			continue
		}
		for b, at := range evenings([]entry{e}) {
			times = append(times, at...)
			if e.at.Sub(last[b]) <= loadRest {
				p.t.Errorf("bucket %d was shifted twice within %v", b, e.at.Sub(last[b]))
			}
			last[b] = e.at
		}
	}
	most := 7 * shiftMost(900)
	for i := range times {
		if n := i + most; n < len(times) && times[n].Sub(times[i]) <= time.Minute {
			p.t.Errorf("more than %d buckets were shifted within a minute", most)
		}
	}
	if len(times) == 0 {
		p.t.Error("nothing was ever shifted: the test shows nothing")
	}
}

// Without the word of a node that may have flows, nobody is taken for cool.
func TestSurveyIsCompleteOrNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := performByLoad(t, hotThird)
		defer p.stop()
		p.c.leader.surveyor.ask = func(ctx context.Context, n raftstore.Node) (heatAnswer, error) {
			if n.Name == "c" {
				return heatAnswer{}, errors.New("no answer")
			}
			return p.c.heatOf(ctx, n)
		}
		time.Sleep(2 * time.Minute)
		if moved := evenings(p.logged()); len(moved) > 0 {
			t.Errorf("moved %v", moved)
		}
	})
}

// What the load has shifted is not evened out again, whatever happens: the
// plan is at rest after it, and leaves every node its share.
func TestPlanKeepsSharesByLoad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t)
		nodes := rapid.IntRange(2, 6).Draw(t, "nodes")
		for i := range nodes {
			h.join(fmt.Sprintf("n%d", i), rapid.IntRange(0, 3).Draw(t, "weight"))
		}
		d := testDefinition("web", rapid.IntRange(1, 200).Draw(t, "buckets"))
		d.Balance = raftstore.BalanceLoad
		h.must(raftstore.Command{Define: &raftstore.Define{Seed: 7, Definition: d}})
		h.replan()
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "shift") {
				h.randomShift(t)
				if moves := plan(h.state, idle, leeway{even: true}); len(moves) > 0 {
					t.Fatalf("evened out again: %v, shares %v", moves, h.state.Services["web"].Shares)
				}
			} else {
				h.randomStep(t)
				h.replan()
			}
			if moves := plan(h.state, idle, leeway{even: true}); len(moves) > 0 {
				t.Fatalf("not at rest: %v, shares %v, %v", moves, h.state.Services["web"].Shares, h.counts("web"))
			}
			total := 0
			for _, n := range h.serving() {
				total += h.counts("web")[n]
			}
			if total != len(h.state.Services["web"].Map) {
				t.Fatalf("%d buckets have an owner that serves", total)
			}
		}
	})
}

// randomShift moves some buckets of one taker to another because of the load.
func (h *history) randomShift(t *rapid.T) {
	takers := takersOf(h.state, h.serving())
	from, to := rapid.SampledFrom(takers).Draw(t, "from"), rapid.SampledFrom(takers).Draw(t, "to")
	var all []shift
	for b, slot := range h.state.Services["web"].Map {
		if slot.Owner == from && from != to && rapid.Bool().Draw(t, "this") {
			all = append(all, shift{hashmode.Bucket(b), from, to})
		}
	}
	if len(all) > 0 {
		moves, shares := assignOf(h.state, "web", takers, all)
		h.must(raftstore.Command{Assign: &raftstore.Assign{
			Epoch: h.state.Epoch, Moves: moves, Shares: map[string]map[string]raftstore.Share{"web": shares},
		}})
	}
}
