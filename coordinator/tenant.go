package coordinator

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// tenant holds this node's lease: it asks the leader for renewals and puts
// them into the kernel.
type tenant struct {
	timing  Timing
	kernel  Kernel
	log     *slog.Logger
	held    func() uint64
	ask     func(ctx context.Context, r renewal) (grant, error)
	request func() renewal // what this node says of itself
	learn   func(levels)
	gained  func() // the node was silent and has a lease now

	wake chan struct{} // there is news for the leader
	anew chan struct{} // there is another leader

	mu      sync.Mutex
	pending lease // granted, waiting for its map
	until   time.Time
	resting bool  // the kernel may hold a restart lease from before us
	closed  bool  // the agent is stopping: no ordinary lease any more
	silent  bool  // the lease ran out, and that was said
	reason  error // why the last request had no success
}

// renewalsAtOnce is how many renewals may be under way to one leader. One that
// comes late is worth something still; more of them make a slow leader slower,
// and each that is given up costs it a connection.
const renewalsAtOnce = 2

// lease is a grant, counted from the sending of its request (rule P1).
type lease struct {
	until time.Time
	bound uint64
}

// run renews the lease until ctx ends.
func (t *tenant) run(ctx context.Context) error {
	left, err := t.kernel.LeaseLeft()
	if err != nil {
		return fmt.Errorf("read the kernel's lease: %w", err)
	}
	t.mu.Lock()
	t.resting = left > t.timing.tenancy(t.timing.Lease)
	t.mu.Unlock()
	ticker := time.NewTicker(t.timing.Renew)
	defer ticker.Stop()
	underWay := make(chan struct{}, renewalsAtOnce)
	var asking sync.WaitGroup
	defer asking.Wait()
	asking.Go(func() { t.tellNews(ctx) })
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			t.notice(time.Now())
		case <-t.anew:
			// A leader that does not answer must not hold up the asking of the next.
			underWay = make(chan struct{}, renewalsAtOnce)
		}
		turn := underWay
		select {
		case turn <- struct{}{}:
			asking.Go(func() {
				defer func() { <-turn }()
				t.renew(ctx)
			})
		default:
		}
	}
}

// tellNews asks for a renewal whenever there is news, until ctx ends. What comes
// while an answer is out goes with the next request: a leader that is short of
// time is not asked by all nodes for each entry of its log.
func (t *tenant) tellNews(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
			t.renew(ctx)
		}
	}
}

// renewNow asks for a renewal before its time: the leader waits to hear which
// map this node holds.
func (t *tenant) renewNow() { signal(t.wake) }

// greet asks for a lease at once, whatever the leader before has not answered.
func (t *tenant) greet() { signal(t.anew) }

// renew asks once.
func (t *tenant) renew(ctx context.Context) {
	// A lease counts from the request, so what comes late is worth something
	// still: as long as it lasts until the next one may come. To ask a busy leader
	// anew instead would make it busier.
	ctx, cancel := context.WithTimeout(ctx, t.timing.tenancy(t.timing.Lease)-t.timing.Renew)
	defer cancel()
	r := t.request()
	t.mu.Lock()
	sent := time.Now()
	r.Resting, r.Silent = t.resting, !sent.Before(t.until)
	t.mu.Unlock()
	g, err := t.ask(ctx, r)
	if err != nil {
		t.refused(err)
		return
	}
	t.learn(g.Levels)
	t.take(lease{until: sent.Add(t.timing.tenancy(t.timing.Lease)), bound: g.Bound})
}

// refused keeps why there is no lease, and tells each new reason.
func (t *tenant) refused(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reason == nil || t.reason.Error() != err.Error() {
		t.log.Debug("lease not renewed", "error", err)
	}
	t.reason = err
}

// notice says once that the lease has run out, and why.
func (t *tenant) notice(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.until.IsZero() || now.Before(t.until) || t.silent || t.closed {
		return
	}
	t.silent = true
	if held := t.held(); held < t.pending.bound {
		t.log.Warn("lease lost: this node is silent", "waits_for_map", t.pending.bound, "holds", held)
		return
	}
	t.log.Warn("lease lost: this node is silent", "error", t.reason)
}

// take accepts a grant and installs it if its map is in the kernel.
func (t *tenant) take(l lease) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	if l.until.After(t.pending.until) {
		t.pending = l
	}
	t.install(t.held())
}

// mapHeld says that the kernel holds a newer map: a grant that waited for it
// can be installed.
func (t *tenant) mapHeld(held uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.install(held)
	}
}

// install puts the pending grant into the kernel if that holds the map which
// the leader meant (rule P3). The caller holds the lock.
func (t *tenant) install(held uint64) {
	if t.pending.until.IsZero() || held < t.pending.bound || !t.pending.until.After(t.until) {
		return
	}
	was := t.until
	if err := t.kernel.Lease(t.pending.until); err != nil {
		t.reason = err
		return
	}
	t.until, t.resting, t.silent, t.reason = t.pending.until, false, false, nil
	if !time.Now().Before(was) {
		t.log.Info("lease gained: this node answers for its buckets", "map", held)
		t.gained()
		t.renewNow() // the leader waits to hear that this node has it
	}
}

// granted reports whether this process has installed a lease.
func (t *tenant) granted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.until.IsZero()
}

// left is how much longer the node may answer by its own reckoning.
func (t *tenant) left(now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(t.until.Sub(now), 0)
}

// askForRest asks for a restart lease until a leader says yes, and returns when
// that request was sent. A leader may be lost in the middle of it, and the next
// one would wait for a node that was granted nothing.
func (t *tenant) askForRest(ctx context.Context) (grant, time.Time, error) {
	for {
		r := t.request()
		r.Rest = t.timing.Rest
		sent := time.Now()
		asking, cancel := context.WithTimeout(ctx, t.timing.Lease)
		g, err := t.ask(asking, r)
		cancel()
		if err == nil {
			return g, sent, nil
		}
		select {
		case <-ctx.Done():
			return g, sent, err
		case <-time.After(t.timing.Renew):
		}
	}
}

// rest asks for a restart lease, with which the kernel answers while no agent
// runs. From then on no ordinary lease is taken. Without a leader's yes, the
// lease that the kernel has runs out.
func (t *tenant) rest(ctx context.Context) error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	g, sent, err := t.askForRest(ctx)
	if err != nil {
		return fmt.Errorf("ask for a restart lease: %w", err)
	}
	for t.held() < g.Bound {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for map %d: %w", g.Bound, ctx.Err())
		case <-time.After(t.timing.Gather):
		}
	}
	until := sent.Add(t.timing.tenancy(t.timing.Rest))
	if err := t.kernel.Lease(until); err != nil {
		return fmt.Errorf("install a restart lease: %w", err)
	}
	t.mu.Lock()
	t.until = until // an agent that takes long to end is not silent
	t.mu.Unlock()
	return nil
}
