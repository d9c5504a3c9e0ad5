package main

import (
	"runtime"
	"sync"
	"time"

	"earshot/e2e/openings"

	"golang.org/x/sys/unix"
)

const (
	// beat is the time between two beats of the pulse, and late how much later
	// one must come to be a stall.
	beat = 5 * time.Millisecond
	late = 15 * time.Millisecond
	// agentNice is the agents' own nice value.
	agentNice = -20
)

// pulse notes when this machine did not run what wanted to run, though it had
// the agents' priority. What agents do late then is not their fault.
type pulse struct {
	quit, done chan struct{}

	mu     sync.Mutex
	stalls []openings.Interval
}

// feel starts a pulse that goes by the given clock. Close it.
func feel(now func() openings.Moment) *pulse {
	p := &pulse{quit: make(chan struct{}), done: make(chan struct{})}
	go p.run(now)
	return p
}

// run beats on a thread of its own.
func (p *pulse) run(now func() openings.Moment) {
	defer close(p.done)
	runtime.LockOSThread() // not unlocked: the thread ends with its priority
	// Without it, more stalls are seen.
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), agentNice)
	pause := unix.NsecToTimespec(beat.Nanoseconds())
	for {
		select {
		case <-p.quit:
			return
		default:
		}
		from := now()
		_ = unix.Nanosleep(&pause, nil) // a signal only makes it shorter
		if to := now(); to-from > beat+late {
			p.mu.Lock()
			p.stalls = append(p.stalls, openings.Interval{From: from, To: to})
			p.mu.Unlock()
		}
	}
}

// within are the stalls that overlap an interval.
func (p *pulse) within(i openings.Interval) []openings.Interval {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []openings.Interval
	for _, s := range p.stalls {
		if s.From < i.To && s.To > i.From {
			all = append(all, s)
		}
	}
	return all
}

// close ends the pulse.
func (p *pulse) close() {
	close(p.quit)
	<-p.done
}

// allowance is how long a gap may be: the bound and the time for which the
// machine stalled. A stall of a third of a lease may cost leases and an election
// of its own, and so another bound.
func allowance(stalls []openings.Interval, lease, bound time.Duration) time.Duration {
	most := bound
	long := false
	for _, s := range stalls {
		most += s.Length()
		long = long || s.Length() > lease/3
	}
	if long {
		most += bound
	}
	return most
}
