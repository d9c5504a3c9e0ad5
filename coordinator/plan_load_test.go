package coordinator

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"earshot/hashmode"
)

// town is a model of a service under load: proxies of very different size,
// each with one bucket, open flows that last for about a round. What a node's
// processors do about that shows in its run queue, late and with noise.
type town struct {
	dice    *rand.Rand
	nodes   []string
	weights map[string]int
	owner   []string
	rate    []float64          // flows per round that each bucket really has
	queue   map[string]float64 // smoothed
	heat    []float64          // smoothed
	rounds  int
	rested  map[hashmode.Bucket]int // round of the last move
	moves   []int                   // per round
	moved   map[hashmode.Bucket]int // how often
	slope   float64                 // of the run queue by the use of the processors
	flows   float64                 // in a round, all together
}

func newTown(seed uint64, nodes, buckets, proxies int, skew, flows, slope float64) *town {
	w := &town{
		dice: rand.New(rand.NewPCG(seed, 1)), weights: map[string]int{}, queue: map[string]float64{},
		rate: make([]float64, buckets), heat: make([]float64, buckets), rested: map[hashmode.Bucket]int{}, moved: map[hashmode.Bucket]int{}, slope: slope, flows: flows,
	}
	for i := range nodes {
		name := fmt.Sprintf("n%d", i)
		w.nodes, w.weights[name] = append(w.nodes, name), 1+i%2
	}
	total := 0
	for _, n := range w.nodes {
		total += w.weights[n]
	}
	for _, n := range w.nodes { // even shares
		for range (buckets*w.weights[n] + total - 1) / total {
			w.owner = append(w.owner, n)
		}
	}
	w.owner = w.owner[:buckets]
	w.dice.Shuffle(buckets, func(i, j int) { w.owner[i], w.owner[j] = w.owner[j], w.owner[i] })
	sum := 0.0
	for i := range proxies {
		sum += 1 / math.Pow(float64(i+1), skew)
	}
	for i := range proxies {
		w.rate[w.dice.IntN(buckets)] += flows / math.Pow(float64(i+1), skew) / sum
	}
	return w
}

// use is how much of an even part by weight each node really has.
func (w *town) use() map[string]float64 {
	use, weight := map[string]float64{}, 0
	for _, n := range w.nodes {
		weight += w.weights[n]
	}
	for b, r := range w.rate {
		use[w.owner[b]] += r / w.flows * float64(weight) / float64(w.weights[w.owner[b]])
	}
	return use
}

// round lets one loadRound go by.
func (w *town) round() []shift {
	use := w.use()
	for _, n := range w.nodes { // ten seconds at a time constant of five
		now := w.slope * use[n] * (0.7 + 0.6*w.dice.Float64())
		w.queue[n] = blend(w.queue[n], w.queue[n]+(now-w.queue[n])*(1-math.Exp(-2)))
	}
	for b, r := range w.rate {
		w.heat[b] = blend(w.heat[b], w.poisson(r))
	}
	c := &climate{
		nodes: w.nodes, weight: func(n string) int { return w.weights[n] }, queue: w.queue, owner: w.owner,
		most: shiftMost(len(w.rate)),
		fixed: func(b hashmode.Bucket) bool {
			last, moved := w.rested[b]
			return moved && w.rounds-last <= int(loadRest/loadRound)
		},
	}
	c.heat = w.heat
	all := c.shifts()
	for _, s := range all {
		if w.owner[s.bucket] != s.from {
			panic("moved from a node that does not have it")
		}
		w.owner[s.bucket] = s.to
		w.rested[s.bucket] = w.rounds
		w.moved[s.bucket]++
	}
	w.rounds++
	w.moves = append(w.moves, len(all))
	return all
}

// poisson draws a number of flows.
func (w *town) poisson(mean float64) float64 {
	if mean > 50 {
		return max(0, math.Round(mean+math.Sqrt(mean)*w.dice.NormFloat64()))
	}
	limit, p, k := math.Exp(-mean), 1.0, 0
	for {
		if p *= w.dice.Float64(); p <= limit {
			return float64(k)
		}
		k++
	}
}

// spread is the difference of the most and the least used node.
func (w *town) spread() float64 {
	most, least := 0.0, math.Inf(1)
	for _, u := range w.use() {
		most, least = max(most, u), min(least, u)
	}
	return most - least
}

// Skewed traffic evens out within a few minutes, stays so without going to
// and fro, and never more buckets move than the bound says.
func TestSkewedLoadEvensOutAndStaysSo(t *testing.T) {
	for _, slope := range []float64{0, 0.3, 1, 3} {
		for _, skew := range []float64{0.6, 0.8, 1} {
			for seed := range uint64(5) {
				w := newTown(seed, 2+int(seed%5), 1024, 400, skew, 4000, slope)
				before := w.spread()
				for range 60 { // ten minutes
					w.round()
				}
				where := fmt.Sprintf("run queue %v, skew %v, seed %d, %d nodes: spread %.2f, then %.2f, moves %v",
					slope, skew, seed, len(w.nodes), before, w.spread(), w.moves)
				if w.spread() > hotter+0.1 {
					t.Errorf("not even: %s", where)
				}
				settled := slices.Max(w.moves[30:])
				late := 0
				for _, n := range w.moves[30:] {
					late += n
				}
				if late > 30 || settled > 8 {
					t.Errorf("no rest after five minutes: %s", where)
				}
				for b, n := range w.moved {
					if n > 3 {
						t.Errorf("bucket %d moved %d times: %s", b, n, where)
					}
				}
				w.checkBound(t)
			}
		}
	}
}

// checkBound demands the bound that shiftMost states.
func (w *town) checkBound(t *testing.T) {
	t.Helper()
	most := 7 * max(1, len(w.rate)/64)
	for i := range w.moves {
		sum := 0
		for _, n := range w.moves[i:min(i+7, len(w.moves))] {
			sum += n
		}
		if sum > most {
			t.Errorf("%d buckets moved in a minute, more than %d", sum, most)
		}
	}
}

// A load that does not change, measured without noise: moves end, and no
// bucket moves twice.
func TestShiftsOfASteadyLoadEnd(t *testing.T) {
	for seed := range uint64(50) {
		w := newTown(seed, 2+int(seed%6), 64<<(seed%5), 100, 0.5+float64(seed%4)/4, 10000, float64(seed%3))
		quiet := 0
		for range 400 {
			use := w.use()
			c := &climate{
				nodes: w.nodes, weight: func(n string) int { return w.weights[n] }, queue: map[string]float64{},
				owner: slices.Clone(w.owner), heat: w.rate, most: shiftMost(len(w.rate)), fixed: func(hashmode.Bucket) bool { return false },
			}
			for _, n := range w.nodes {
				c.queue[n] = w.slope * use[n]
			}
			before := w.spread()
			all := c.shifts()
			for _, s := range all {
				w.owner[s.bucket] = s.to
				w.moved[s.bucket]++
			}
			if w.spread() > before+1e-9 {
				t.Errorf("seed %d: the spread grew from %.3f to %.3f", seed, before, w.spread())
			}
			if quiet++; len(all) > 0 {
				quiet = 0
			}
		}
		if quiet < 100 {
			t.Errorf("seed %d: still moving", seed)
		}
		for b, n := range w.moved {
			if n > 1 {
				t.Errorf("seed %d: bucket %d moved %d times", seed, b, n)
			}
		}
	}
}

// Few flows differ by chance, and nothing moves for that.
func TestChanceMovesNothing(t *testing.T) {
	moves := 0
	for seed := range uint64(50) {
		w := newTown(seed, 4, 1024, 4000, 0, 60, 0) // even, and few
		for range 20 {
			moves += len(w.round())
		}
	}
	if moves > 20 { // in 1,000 rounds
		t.Errorf("%d moves for nothing", moves)
	}
}

// A bucket that is too hot to carry stays, and its node gives others away.
func TestGiantBucketStaysAndTheRestMakesRoom(t *testing.T) {
	c := &climate{
		nodes: []string{"a", "b"}, weight: func(string) int { return 1 }, queue: map[string]float64{}, most: 10,
		owner: []string{"a", "a", "a", "b", "b"}, heat: []float64{900, 100, 100, 50, 50},
		fixed: func(hashmode.Bucket) bool { return false },
	}
	if got := fmt.Sprint(c.shifts()); got != "[{1 a b} {2 a b}]" {
		t.Errorf("shifts %s", got)
	}
}

// A node whose processors are busy with something else gives flows away.
func TestBusyProcessorsGiveFlowsAway(t *testing.T) {
	c := &climate{
		nodes: []string{"a", "b"}, weight: func(string) int { return 1 }, queue: map[string]float64{"a": 3}, most: 2,
		fixed: func(b hashmode.Bucket) bool { return b == 0 },
	}
	for b := range 32 {
		c.owner, c.heat = append(c.owner, []string{"a", "b"}[b/16]), append(c.heat, 100)
	}
	got := c.shifts()
	if len(got) == 0 || got[0] != (shift{1, "a", "b"}) {
		t.Errorf("shifts %v", got)
	}
	c.queue["a"] = 0.8 // no more than noise
	if got := c.shifts(); len(got) != 0 {
		t.Errorf("a short queue moves %v", got)
	}
	c.queue["a"], c.fixed = 3, func(hashmode.Bucket) bool { return true }
	if got := c.shifts(); len(got) != 0 {
		t.Errorf("buckets that stay move: %v", got)
	}
}
