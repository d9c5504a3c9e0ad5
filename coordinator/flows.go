package coordinator

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"earshot/hashmode"
	"earshot/nft"
)

// errFirstLook refuses to tell a load: this process has looked at the counters
// for the first time, and what has ended since before is not known. A node that
// told only what is open would look cool.
var errFirstLook = errors.New("the new flows of a round are not counted yet; the next round has them")

// flowLoad takes the flows that a bucket had in the last round for its load:
// those that are open, and those that ended meanwhile. Long connections and
// short ones count alike, whenever they began.
type flowLoad struct {
	kernel Kernel

	mu   sync.Mutex
	last glance
	told map[string]map[hashmode.Bucket]float64 // by the last glance; nil where it was the first
}

// glance is what was seen of the flows of services at one time.
type glance struct {
	at     time.Time
	counts map[string]flowsSeen
}

// flowsSeen are one service's flows.
type flowsSeen struct {
	spec hashmode.Spec // that the buckets are of
	open map[hashmode.Bucket]int
	// begun is what the kernel has ever counted; nil where it does not.
	begun map[hashmode.Bucket]uint64
}

// BucketLoad implements BucketLoad. Asked again within half a round, by
// another leader, it tells the same again: so little time says nothing.
func (f *flowLoad) BucketLoad(services []nft.Service) (map[string]map[hashmode.Bucket]float64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.last.at.IsZero() && time.Since(f.last.at) < loadRound/2 {
		return f.answer()
	}
	now, err := f.look(services)
	if err != nil {
		return nil, err
	}
	before, elapsed := f.last, now.at.Sub(f.last.at)
	f.told = map[string]map[hashmode.Bucket]float64{}
	first := false
	for service, seen := range now.counts {
		was, known := before.counts[service]
		if seen.begun != nil && (!known || was.begun == nil || was.spec != seen.spec) {
			first = true
			continue
		}
		f.told[service] = flowsHad(was, seen, elapsed)
		seen.begun = remembered(was.begun, seen.begun)
		now.counts[service] = seen
	}
	f.last = now
	if first {
		f.told = nil
	}
	return f.answer()
}

// answer is what the last glance tells.
func (f *flowLoad) answer() (map[string]map[hashmode.Bucket]float64, error) {
	if f.told == nil {
		return nil, errFirstLook
	}
	return f.told, nil
}

// look asks the kernel.
func (f *flowLoad) look(services []nft.Service) (glance, error) {
	now := glance{at: time.Now(), counts: map[string]flowsSeen{}}
	begun, err := f.kernel.NewFlows(services)
	if err != nil {
		return glance{}, fmt.Errorf("count new flows: %w", err)
	}
	open, err := f.kernel.Flows(services)
	if err != nil {
		return glance{}, fmt.Errorf("count flows: %w", err)
	}
	for _, s := range services {
		seen := flowsSeen{spec: s.Hash, open: map[hashmode.Bucket]int{}, begun: begun[s.Name]}
		for b, n := range open[s.Name] {
			if sum := n.Active + n.Closing + n.Other; sum > 0 {
				seen.open[b] = sum
			}
		}
		now.counts[s.Name] = seen
	}
	return now, nil
}

// flowsHad is how many flows each bucket had in a round, by two looks and the
// time between them: those that are open now, and those that ended, which were
// open before or began since, brought to the length of a round.
func flowsHad(before, now flowsSeen, elapsed time.Duration) map[hashmode.Bucket]float64 {
	had := map[hashmode.Bucket]float64{}
	for b, n := range now.open {
		had[b] = float64(n)
	}
	if now.begun == nil || elapsed <= 0 {
		return had
	}
	rounds := elapsed.Seconds() / loadRound.Seconds()
	end := func(b hashmode.Bucket) {
		ended := float64(before.open[b]) + begunSince(before.begun, now.begun, b) - float64(now.open[b])
		if ended > 0 {
			had[b] = float64(now.open[b]) + ended/rounds
		}
	}
	for b := range before.open {
		end(b)
	}
	for b := range now.begun {
		end(b)
	}
	return had
}

// begunSince is what a counter has counted between two looks. One that is
// smaller than it was has started anew, and so has one that is new.
func begunSince(before, now map[hashmode.Bucket]uint64, b hashmode.Bucket) float64 {
	was, is := before[b], now[b]
	if is < was {
		was = 0
	}
	return float64(is - was)
}

// remembered are the counters as they were seen last. One that is missing was
// overlooked while the rules changed, or its bucket is gone: were it forgotten,
// all that it has ever counted would be news when it is seen again.
func remembered(before, now map[hashmode.Bucket]uint64) map[hashmode.Bucket]uint64 {
	if now == nil {
		return nil
	}
	all := maps.Clone(now)
	for b, n := range before {
		if _, seen := all[b]; !seen {
			all[b] = n
		}
	}
	return all
}
