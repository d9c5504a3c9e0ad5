package sim

import (
	"fmt"
	"math/bits"
	"sync"
	"time"

	"earshot/hashmode"
	"earshot/nft"
)

// opening is what one kernel lets through: it opens flows in the buckets of
// the mask until the lease ends.
type opening struct {
	mask  uint64
	until time.Time
	held  uint64
	deaf  bool // and nobody can reach it
}

// judge knows the openings of all kernels, at every moment.
type judge struct {
	world *world

	mu        sync.Mutex
	openings  []opening
	all       uint64        // buckets that somebody has to open
	covered   [64]time.Time // when each was last opened by somebody who can be reached
	bound     time.Duration // of a bucket without an opener; 0 for none
	fault     string        // what gaps are put down to
	worst     map[string]time.Duration
	violation string
	failed    chan struct{} // closed with the first violation
}

func newJudge(w *world) *judge {
	return &judge{world: w, worst: map[string]time.Duration{}, failed: make(chan struct{})}
}

// Buckets of the services, and where each service begins in a mask.
const (
	webBuckets = 32
	dnsBuckets = 13
)

// maskOf is what a ruleset opens under a lease.
func maskOf(rs nft.Ruleset) uint64 {
	mask := uint64(0)
	for _, s := range rs.Services {
		first := 0
		if s.Name == "dns" {
			first = webBuckets
		}
		for b := range s.Own.Union(s.Inherit).All() {
			mask |= 1 << (first + int(b))
		}
	}
	return mask
}

// setOf is maskOf, backwards, for one service.
func setOf(name string, mask uint64) hashmode.Set {
	first, count := 0, webBuckets
	if name == "dns" {
		first, count = webBuckets, dnsBuckets
	}
	set := hashmode.Set{}
	for b := range count {
		if mask&(1<<(first+b)) != 0 {
			set.Add(hashmode.Bucket(b))
		}
	}
	return set
}

// mask is what a kernel opens, lease or not.
func (j *judge) mask(i int) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.openings[i].mask
}

// update changes what a kernel opens, and looks at the consequence.
func (j *judge) update(i int, change func(*opening)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	for len(j.openings) <= i {
		j.openings = append(j.openings, opening{})
	}
	j.account(now)
	o := &j.openings[i]
	change(o)
	if o.mask == 0 || !now.Before(o.until) {
		return
	}
	for other := range j.openings {
		p := &j.openings[other]
		if both := p.mask & o.mask; other != i && both != 0 && now.Before(p.until) {
			j.violate("I1: %s and %s both open buckets %016x (leases %v and %v, maps %d and %d)",
				j.world.machines[i].name, j.world.machines[other].name, both, o.until.Sub(now), p.until.Sub(now), o.held, p.held)
		}
	}
	j.closeGaps(now, o)
}

// account notes which buckets were open until now. The caller holds the lock.
func (j *judge) account(now time.Time) {
	open := uint64(0)
	for i := range j.openings {
		o := &j.openings[i]
		switch {
		case o.mask == 0 || o.deaf:
		case now.Before(o.until):
			open |= o.mask
		default:
			for m := o.mask; m != 0; m &= m - 1 {
				b := bits.TrailingZeros64(m)
				if o.until.After(j.covered[b]) {
					j.covered[b] = o.until
				}
			}
		}
	}
	for m := open; m != 0; m &= m - 1 {
		j.covered[bits.TrailingZeros64(m)] = now
	}
}

// closeGaps measures the gaps that end now, since the kernel opens. The caller
// holds the lock.
func (j *judge) closeGaps(now time.Time, o *opening) {
	if o.deaf {
		return
	}
	for m := o.mask; m != 0; m &= m - 1 {
		b := bits.TrailingZeros64(m)
		if j.all&(1<<b) != 0 {
			j.measure(b, now.Sub(j.covered[b]))
		}
		j.covered[b] = now
	}
}

// measure takes a gap into account, ended or not. The caller holds the lock.
func (j *judge) measure(b int, gap time.Duration) {
	if j.bound == 0 {
		return
	}
	j.worst[j.fault] = max(j.worst[j.fault], gap)
	if j.world.quiet {
		return // the tally has it
	}
	if gap > j.bound {
		j.violate("I2: bucket %d had no opener for %v after %s; the bound is %v", b, gap, j.fault, j.bound)
	}
}

// look measures the gaps that are open, and returns the buckets that nobody
// opens.
func (j *judge) look() (ownerless uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	j.account(now)
	for m := j.all; m != 0; m &= m - 1 {
		b := bits.TrailingZeros64(m)
		if gap := now.Sub(j.covered[b]); gap > 0 {
			ownerless |= 1 << b
			j.measure(b, gap)
		}
	}
	return ownerless
}

// expect says what gaps are allowed from now on, and what they come from.
func (j *judge) expect(fault string, bound time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.account(time.Now())
	j.fault, j.bound = fault, bound
}

// demand says which buckets somebody has to open.
func (j *judge) demand(all uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.all = all
}

// left is the rest of a kernel's lease.
func (j *judge) left(i int) time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	if i >= len(j.openings) {
		return 0
	}
	return max(time.Until(j.openings[i].until), 0)
}

// violate notes the first violation and ends the run. The caller holds the
// lock.
func (j *judge) violate(format string, args ...any) {
	if j.violation != "" {
		return
	}
	j.violation = fmt.Sprintf(format, args...)
	j.world.history.say("VIOLATION: " + j.violation)
	for i, o := range j.openings {
		j.world.history.note(j.world.machines[i], "opens %016x, lease %v, map %d", o.mask, time.Until(o.until), o.held)
	}
	close(j.failed)
}

// fail is violate for those who do not hold the lock.
func (j *judge) fail(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.violate(format, args...)
}

// ok reports whether nothing was violated yet.
func (j *judge) ok() bool {
	select {
	case <-j.failed:
		return false
	default:
		return true
	}
}
