package coordinator

import (
	"cmp"
	"math"
	"slices"
	"time"

	"earshot/hashmode"
	"earshot/raftstore"
)

// The hysteresis of shares by load, in temperatures: 1 is an even part of all
// flows by weight. A run queue adds what it is longer than the others', beyond
// a half, as a part of theirs: run queues that are not far apart are noise, and
// the flows tell more.
const (
	// hotter is by how much the hottest node must be above the coolest for
	// anything to move.
	hotter = 0.25
	// evenEnough is where it ends.
	evenEnough = 0.1
	// chance is how many standard deviations two nodes' flows must lie apart to
	// be no accident.
	chance = 3
	// noise is how far a run queue may be from the mean without a meaning: so
	// many tasks per processor, or of longer queues such a part.
	noise = 0.5
)

const (
	// loadRound is the time between two shifts. It is long beside the time over
	// which a run queue is smoothed, so that each shift sees the last one's effect.
	loadRound = 10 * time.Second
	// loadRest is how long a bucket stays where the load has moved it.
	loadRest = time.Minute
)

// shiftMost is how many buckets of a service may be shifted in a loadRound: in
// any minute, then, at most 7 · max(1, buckets/64), and none of them twice.
func shiftMost(buckets int) int { return max(1, buckets/64) }

// climate is what is known of the load of one service.
type climate struct {
	nodes  []string           // that are given buckets, by name
	weight func(string) int   // of each, above zero
	queue  map[string]float64 // runnable tasks per processor of each
	owner  []string           // of each bucket
	heat   []float64          // flows of each bucket
	// fixed reports a bucket that stays where it is.
	fixed func(hashmode.Bucket) bool
	most  int // how many may move
}

// shift is one bucket's way from a hot node to a cool one.
type shift struct {
	bucket   hashmode.Bucket
	from, to string
}

// shifts names the buckets to move from hot nodes to cool ones, the hottest
// first. It is a pure function of its arguments.
//
// It moves at most c.most buckets. A bucket is moved only if by the highest
// estimate of what it costs, all of a node's run queue included, its new owner
// gets no hotter than its old one becomes. So the difference of the two falls
// with each move and never turns around: under a load that does not change the
// moves come to an end, and no bucket comes back.
func (c *climate) shifts() []shift {
	t := newThermometer(c)
	if t == nil {
		return nil
	}
	var all []shift
	least := hotter
	for len(all) < c.most {
		s, found := t.next(least)
		if !found {
			break
		}
		all, least = append(all, s), evenEnough
	}
	return all
}

// thermometer reckons with the nodes' temperatures while buckets move.
type thermometer struct {
	*climate
	mean    float64 // flows per unit of weight
	flows   map[string]float64
	perFlow map[string]float64 // temperature that the run queue adds per flow, at the most
	extra   map[string]float64 // temperature by run queues
	buckets map[string][]hashmode.Bucket
}

// newThermometer returns nil where there is nothing to compare.
func newThermometer(c *climate) *thermometer {
	t := &thermometer{
		climate: c, flows: map[string]float64{}, perFlow: map[string]float64{},
		extra: map[string]float64{}, buckets: map[string][]hashmode.Bucket{},
	}
	for b, h := range c.heat {
		t.flows[c.owner[b]] += h
		if h > 0 && !c.fixed(hashmode.Bucket(b)) {
			t.buckets[c.owner[b]] = append(t.buckets[c.owner[b]], hashmode.Bucket(b))
		}
	}
	weight, total, queues := 0.0, 0.0, 0.0
	for _, n := range c.nodes {
		w := float64(c.weight(n))
		weight, total, queues = weight+w, total+t.flows[n], queues+w*c.queue[n]
	}
	if len(c.nodes) < 2 || total == 0 || weight == 0 {
		return nil
	}
	t.mean = total / weight
	for _, n := range c.nodes {
		scale := max(1, queues/weight)
		t.extra[n] = beyond((c.queue[n]-queues/weight)/scale, noise)
		if t.flows[n] > 0 {
			t.perFlow[n] = c.queue[n] / scale / t.flows[n]
		}
		slices.SortStableFunc(t.buckets[n], func(a, b hashmode.Bucket) int { return cmp.Compare(c.heat[b], c.heat[a]) })
	}
	return t
}

// beyond is what is left of x above the limit, or below its negative.
func beyond(x, limit float64) float64 {
	switch {
	case x > limit:
		return x - limit
	case x < -limit:
		return x + limit
	}
	return 0
}

// of is a node's temperature.
func (t *thermometer) of(n string) float64 {
	return t.flows[n]/float64(t.weight(n))/t.mean + t.extra[n]
}

// next moves the hottest bucket that the hottest node can give to the coolest,
// if they are at least so far apart. A node whose buckets are all too hot to
// carry keeps them, and the next one gives.
func (t *thermometer) next(least float64) (shift, bool) {
	nodes := slices.Clone(t.nodes)
	slices.SortStableFunc(nodes, func(a, b string) int { return cmp.Compare(t.of(b), t.of(a)) })
	cool := nodes[len(nodes)-1]
	for _, hot := range nodes {
		gap := t.of(hot) - t.of(cool)
		if gap < least || !t.telling(hot, cool) {
			break
		}
		for i, b := range t.buckets[hot] {
			if leaves, arrives := t.effect(b, hot, cool); leaves+arrives <= gap {
				t.move(i, hot, cool)
				return shift{bucket: b, from: hot, to: cool}, true
			}
		}
	}
	return shift{}, false
}

// effect is how much cooler one node and how much hotter the other gets at the
// most when the bucket moves.
func (t *thermometer) effect(b hashmode.Bucket, from, to string) (leaves, arrives float64) {
	leaves = t.heat[b] * (1/float64(t.weight(from))/t.mean + t.perFlow[from])
	return leaves, leaves * float64(t.weight(from)) / float64(t.weight(to))
}

// telling reports whether two nodes' flows, or their run queues, differ by
// more than chance would have it.
func (t *thermometer) telling(hot, cool string) bool {
	wh, wc := float64(t.weight(hot)), float64(t.weight(cool))
	difference := t.flows[hot]/wh - t.flows[cool]/wc
	deviation := math.Sqrt(t.flows[hot]/wh/wh + t.flows[cool]/wc/wc)
	return difference > chance*deviation || t.extra[hot]-t.extra[cool] > hotter
}

// move has the hot node's i-th bucket move.
func (t *thermometer) move(i int, hot, cool string) {
	b := t.buckets[hot][i]
	leaves, arrives := t.effect(b, hot, cool)
	t.buckets[hot] = slices.Delete(t.buckets[hot], i, i+1)
	h := t.heat[b]
	t.flows[hot] -= h
	t.flows[cool] += h
	// What the run queues change by, beyond the flows.
	t.extra[hot] -= leaves - h/float64(t.weight(hot))/t.mean
	t.extra[cool] += arrives - h/float64(t.weight(cool))/t.mean
}

// blend smooths what is measured once in a loadRound.
func blend(before, now float64) float64 { return (before + now) / 2 }

// assignOf is the command for shifts of one service: the moves, and the
// shares that they make, which keep them from being evened out again.
func assignOf(st *raftstore.State, service string, nodes []string, all []shift) ([]raftstore.Move, map[string]raftstore.Share) {
	have := map[string]int{}
	for _, slot := range st.Services[service].Map {
		have[slot.Owner]++
	}
	sets := map[string]*hashmode.Set{}
	for _, s := range all {
		if sets[s.to] == nil {
			sets[s.to] = &hashmode.Set{}
		}
		sets[s.to].Add(s.bucket)
		have[s.from]--
		have[s.to]++
	}
	var moves []raftstore.Move
	shares := map[string]raftstore.Share{}
	for _, n := range nodes {
		shares[n] = raftstore.Share{Buckets: have[n], Weight: st.Nodes[n].Weight}
		if sets[n] != nil {
			moves = append(moves, raftstore.Move{Service: service, Buckets: sets[n].String(), To: n})
		}
	}
	return moves, shares
}
