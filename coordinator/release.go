package coordinator

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// release tells up to which map this node has released what it gave away
// (rules P13, P24). A packet may be under way that met the rules before they
// closed a bucket: the level rises only behind a barrier.
type release struct {
	kernel Kernel
	// onReleased is called when the level rises.
	onReleased func(released uint64)
	log        *slog.Logger
	wake       chan struct{}

	mu      sync.Mutex
	level   uint64    // told
	target  uint64    // to be told, behind a barrier if closed
	closed  bool      // a bucket was closed since the last barrier began
	busy    bool      // a barrier is under way
	covered uint64    // the target when it began
	given   bool      // a bucket was closed that is not told as released yet
	at      time.Time // when one last was
}

func newRelease(kernel Kernel, onReleased func(uint64), log *slog.Logger) *release {
	return &release{kernel: kernel, onReleased: onReleased, log: log, wake: make(chan struct{}, 1)}
}

// applied says what the kernel has released by its sets, and whether a bucket
// was closed just now.
func (r *release) applied(released uint64, closed bool) {
	r.mu.Lock()
	r.target = max(r.target, released)
	r.closed = r.closed || closed
	r.given = r.given || closed
	rises := !r.closed && !r.busy && r.target > r.level
	if rises {
		r.raise(r.target)
	}
	wait := r.closed
	r.mu.Unlock()
	switch {
	case rises:
		r.onReleased(released)
	case wait:
		signal(r.wake)
	}
}

// barrierRetry is the wait after a barrier that failed.
const barrierRetry = 50 * time.Millisecond

// run waits for barriers until ctx ends, apart from whoever applies maps: one
// takes some milliseconds, and a lease may be waiting for the next map.
func (r *release) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		}
		for r.begin() {
			if err := r.kernel.Barrier(); err != nil {
				r.log.Error("cannot tell that buckets are released: their new owners wait", "error", err)
				r.repeat()
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(barrierRetry):
				}
				continue
			}
			r.end()
		}
	}
}

// begin reports whether a barrier is due.
func (r *release) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy, r.covered, r.closed = r.closed, r.target, false
	return r.busy
}

// repeat has the next barrier do what the last one did not.
func (r *release) repeat() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy, r.closed = false, true
}

// end raises the level after a barrier: to what was closed before it, or to
// what has been applied since if that closed nothing more.
func (r *release) end() {
	r.mu.Lock()
	r.busy = false
	before := r.level
	if !r.closed {
		r.covered = r.target
	}
	if r.covered > before {
		r.raise(r.covered)
	}
	level := r.level
	r.mu.Unlock()
	if level > before {
		r.onReleased(level)
	}
}

// raise tells a higher level. What was closed since the last barrier began is
// not in it.
func (r *release) raise(level uint64) {
	r.level = level
	if r.given {
		r.at, r.given = time.Now(), r.closed
	}
}

// pending reports whether something closed is still to be told as released.
func (r *release) pending() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed || r.busy || r.target > r.level
}

// told is the level that has been told.
func (r *release) told() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.level
}

// last is when a bucket that was closed was last told as released.
func (r *release) last() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at
}
