package sim

import (
	"context"
	"errors"
	"sync"
	"time"

	"earshot/hashmode"
	"earshot/nft"
)

// kernel is a node's kernel as far as the protocol sees one. It outlives
// processes. What it lets through is kept by the judge.
type kernel struct {
	node *node

	mu      sync.Mutex
	held    uint64
	ok      bool
	deaf    bool
	slow    time.Duration // an Apply takes so long
	broken  bool          // an Apply fails
	hold    time.Duration // the next Lease is stopped in its middle for so long
	watcher func()
	// Rules that a test can take away.
	naiveLease bool // without rule P8
	older      bool // without rule P11: takes older maps
}

// What a packet filter's timer rounds up to.
const jiffy = 4 * time.Millisecond

// reboot empties the kernel.
func (k *kernel) reboot() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held, k.ok, k.watcher = 0, false, nil
	k.node.world.wire.restart(k.node)
	k.node.world.judge.update(k.node.i, func(o *opening) { o.mask, o.until = 0, time.Time{} })
}

// setDeaf takes the carrier away, or brings it back.
func (k *kernel) setDeaf(deaf bool) {
	k.mu.Lock()
	k.deaf = deaf
	changed := k.watcher
	k.mu.Unlock()
	k.node.world.judge.update(k.node.i, func(o *opening) { o.deaf = deaf })
	k.node.world.wire.carrier(k.node)
	if changed != nil {
		changed()
	}
}

// takeTime has every Apply take so long.
func (k *kernel) takeTime(d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.slow = d
}

// kernelPort is a process's way to its kernel.
type kernelPort struct {
	*process
	*kernel
}

func (k kernelPort) Held() (uint64, bool, error) {
	if !k.pass() {
		return 0, false, errGone
	}
	k.kernel.mu.Lock()
	defer k.kernel.mu.Unlock()
	return k.held, k.ok, nil
}

func (k kernelPort) Opened(names []string) (map[string]hashmode.Set, error) {
	if !k.pass() {
		return nil, errGone
	}
	all := map[string]hashmode.Set{}
	for _, name := range names {
		all[name] = setOf(name, k.node().world.judge.mask(k.node().i))
	}
	return all, nil
}

func (k kernelPort) Apply(rs nft.Ruleset) error {
	if !k.pass() {
		return errGone
	}
	k.kernel.mu.Lock()
	slow := k.slow
	k.kernel.mu.Unlock()
	if slow > 0 && !k.sleep(slow) {
		return errGone
	}
	err := k.apply(rs)
	if !k.pass() {
		return errGone
	}
	return err
}

func (k kernelPort) apply(rs nft.Ruleset) error {
	k.kernel.mu.Lock()
	defer k.kernel.mu.Unlock()
	switch {
	case k.broken:
		return errors.New("kernel says no")
	case k.ok && rs.Index < k.held && !k.older:
		return nft.ErrOlder
	}
	back := k.ok && rs.Index < k.held
	before := k.held
	k.held, k.ok = rs.Index, true
	mask := maskOf(rs)
	w := k.kernel.node.world
	w.judge.update(k.kernel.node.i, func(o *opening) {
		if o.mask != mask {
			w.history.note(k.kernel.node, "map %d: opens %016x, was %016x", rs.Index, mask, o.mask)
		}
		o.mask, o.held = mask, rs.Index
		if back && time.Now().Before(o.until) {
			w.judge.violate("I4: the kernel of %s went back from map %d to %d under a lease", k.kernel.node.name, before, rs.Index)
		}
	})
	w.wire.follow(k.kernel.node, k.store.State().Nodes[k.kernel.node.name], rs)
	return nil
}

func (k kernelPort) Forget() error {
	if !k.pass() {
		return errGone
	}
	if left := k.node().world.judge.left(k.node().i); left > 0 {
		return nft.ErrLeased
	}
	k.kernel.mu.Lock()
	defer k.kernel.mu.Unlock()
	k.held, k.ok = 0, false
	return nil
}

func (k kernelPort) node() *node { return k.kernel.node }

// Lease is nft's: whatever happens in it, the lease ends when it should, but
// for what the timer rounds and the clock's error. It cannot wait itself,
// since it is called under a lock: a process that is stopped in it is stopped
// at its next step, and the lease comes when it goes on.
func (k kernelPort) Lease(until time.Time) error {
	k.kernel.mu.Lock()
	defer k.kernel.mu.Unlock()
	switch {
	case !k.alive():
		return errGone
	case !k.ok:
		return nft.ErrNoTable
	}
	now := time.Now()
	length := until.Sub(now)
	if length <= 0 {
		return nft.ErrLate
	}
	n := k.kernel.node
	ends := until.Add(n.world.rng.upTo(jiffy - 2*time.Millisecond)) // less nft.LeaseTolerance
	ends = ends.Add(n.slowness(max(length, n.world.timing.Lease)))
	if hold := k.hold; hold > 0 {
		k.hold = 0
		return k.leaseAfter(hold, length, ends)
	}
	k.install(ends)
	return nil
}

// leaseAfter stops the process in the middle of Lease. The caller holds the
// kernel's lock.
func (k kernelPort) leaseAfter(hold, length time.Duration, ends time.Time) error {
	thaw := k.freeze()
	n := k.kernel.node
	n.world.history.note(n, "stopped for %v within Lease", hold)
	if k.naiveLease {
		ends = time.Now().Add(hold + length)
	}
	late := hold >= length && !k.naiveLease
	n.world.after(hold, func() {
		k.kernel.mu.Lock()
		if k.alive() && k.ok && !late {
			k.install(ends)
		}
		k.kernel.mu.Unlock()
		thaw()
	})
	if late {
		return nft.ErrLate
	}
	return nil
}

// install puts a lease in the place of the one that stands.
func (k kernelPort) install(ends time.Time) {
	n := k.kernel.node
	n.world.judge.update(n.i, func(o *opening) {
		if !time.Now().Before(o.until) {
			n.world.history.note(n, "lease for %v from silence, map %d", time.Until(ends), k.held)
		}
		o.until = ends
	})
}

func (k kernelPort) Revoke() error {
	k.node().world.judge.update(k.node().i, func(o *opening) { o.until = time.Time{} })
	return nil
}

func (k kernelPort) LeaseLeft() (time.Duration, error) {
	if !k.pass() {
		return 0, errGone
	}
	return k.node().world.judge.left(k.node().i), nil
}

func (k kernelPort) Announce([]nft.Service) error { return nil }

func (k kernelPort) Carrier(string) (bool, error) {
	if !k.pass() {
		return false, errGone
	}
	k.kernel.mu.Lock()
	defer k.kernel.mu.Unlock()
	return !k.deaf, nil
}

func (k kernelPort) Watch(ctx context.Context, changed func()) error {
	k.kernel.mu.Lock()
	k.watcher = changed
	k.kernel.mu.Unlock()
	<-ctx.Done()
	return nil
}

func (k kernelPort) Resync() {}

// Barrier takes as long as the real one may.
func (k kernelPort) Barrier() error {
	if !k.pass() || !k.sleep(5*time.Millisecond+k.kernel.node.world.rng.upTo(20*time.Millisecond)) || !k.pass() {
		return errGone
	}
	return nil
}

func (k kernelPort) Strangers() []nft.Stranger { return nil }

// Reset finds none to end.
func (k kernelPort) Reset([]nft.Service, string, hashmode.Set) (int, error) { return 0, nil }
