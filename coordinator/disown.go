package coordinator

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"earshot/hashmode"
	"earshot/nft"
)

// disownRetry is the wait after a try that failed.
const disownRetry = time.Second

// disowner has the kernel forget flows of buckets that this node has nothing
// to do with any more. Its conntrack remembers them for minutes: if such a
// bucket came back while its flows live on another node, both would know them.
// It is done when a bucket goes, so that it is seldom waited for when one
// comes.
type disowner struct {
	kernel Kernel
	log    *slog.Logger
	wake   chan struct{}

	mu       sync.Mutex
	services []nft.Service
	due      map[string]hashmode.Set
	doing    map[string]hashmode.Set // of which the kernel is being told
	done     chan struct{}           // closed and replaced when it has been
	problem  string
}

func newDisowner(kernel Kernel, log *slog.Logger) *disowner {
	return &disowner{
		kernel: kernel, log: log, wake: make(chan struct{}, 1),
		due: map[string]hashmode.Set{}, done: make(chan struct{}),
	}
}

// partOf is all that a node has to do with the buckets of a service.
func partOf(s nft.Service) hashmode.Set { return s.Own.Union(s.Inherit).Union(s.Drain).Union(s.Take) }

// begin says that the kernel is to have the first ruleset of this process,
// which does not know what it had before, but that it opened flows in opened.
func (d *disowner) begin(now nft.Ruleset, opened map[string]hashmode.Set) {
	d.lose(now, func(s nft.Service) hashmode.Set {
		all := hashmode.Range(0, hashmode.Bucket(s.Hash.Buckets-1))
		return all.Minus(s.Own).Minus(s.Inherit).Minus(s.Drain).Minus(s.Take.Intersect(opened[s.Name]))
	})
}

// applied says that the kernel went from one ruleset to another.
func (d *disowner) applied(last, now nft.Ruleset) {
	had := map[string]hashmode.Set{}
	for _, s := range last.Services {
		had[s.Name] = partOf(s)
	}
	d.lose(now, func(s nft.Service) hashmode.Set { return had[s.Name].Minus(partOf(s)) })
}

// lose has what is lost of each service disowned.
func (d *disowner) lose(now nft.Ruleset, lost func(nft.Service) hashmode.Set) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.services = now.Services
	for _, s := range now.Services {
		if b := lost(s); !b.Empty() {
			d.due[s.Name] = d.due[s.Name].Union(b)
			signal(d.wake)
		}
	}
}

// await waits until no bucket that the node is to take is still to be disowned,
// or for so long.
func (d *disowner) await(now nft.Ruleset, limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		done, due := d.pending(now)
		if !due {
			return
		}
		select {
		case <-done:
		case <-timer.C:
			return
		}
	}
}

// pending reports whether a bucket that the node is to take is still to be
// disowned, and what is closed when that may have changed.
func (d *disowner) pending(now nft.Ruleset) (done <-chan struct{}, due bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range now.Services {
		taken := s.Take.Union(s.Inherit)
		due = due || taken.Minus(d.due[s.Name]).Minus(d.doing[s.Name]).Len() < taken.Len()
	}
	return d.done, due
}

// run disowns what is due until ctx ends.
func (d *disowner) run(ctx context.Context) error {
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.wake:
		case <-retry.C:
		}
		if !d.disown() {
			retry.Reset(disownRetry)
		}
	}
}

// disown does all that is due, and reports whether it could.
func (d *disowner) disown() bool {
	d.mu.Lock()
	services := d.services
	d.due, d.doing = map[string]hashmode.Set{}, d.due
	doing := d.doing
	d.mu.Unlock()
	if len(doing) == 0 {
		return true
	}
	err := d.kernel.Barrier() // what is under way is not remembered yet
	if err == nil {
		err = d.kernel.Disown(services, doing)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.doing = nil
	if err == nil {
		d.problem = ""
		close(d.done)
		d.done = make(chan struct{})
		return true
	}
	for name, buckets := range doing {
		d.due[name] = d.due[name].Union(buckets)
	}
	if d.problem != err.Error() {
		d.log.Warn("flows that this node has no part in any more are remembered: both nodes may answer one that comes back", "error", err)
	}
	d.problem = err.Error()
	return false
}
