package nft

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A Plane is the data plane of this node: what the kernel holds of Earshot in
// one network namespace. There is one writer: run one agent per namespace.
// Its methods may be called from several goroutines; leases do not wait for
// Apply.
type Plane struct {
	log   *slog.Logger
	ns    namespace
	ports *portIDs
	links *netlink.Handle
	queue Queue // that this kernel has
	// refuses: this kernel can refuse what opens a flow.
	refuses bool
	// counts: this kernel can count flows that begin.
	counts bool

	mu    sync.Mutex // guards what follows
	wire  wire
	have  contents // what we believe the kernel holds, unless stale
	shape string   // of the structure that the kernel holds
	asked string   // of the one that was asked for
	held  uint64   // the highest index ever written or read (rule P11)
	stale bool     // the kernel has to be read
	// refused has what of the structure this node cannot carry.
	refused refusals
	watch   watched
	// members are the groups that this process is in, by place.
	members map[string]member
	former  settings // as far as this process knows
	settled map[netip.Addr]place
	// rewritten: the last rebuild found other rules. added counts addresses.
	rewritten bool
	added     int
	repairs   atomic.Uint64

	strangers sightings

	leaseMu sync.Mutex // guards what follows
	lease   leaser

	holds    holder        // has a lock of its own
	flows    flowFinder    // likewise
	tracker  tracker       // likewise
	counters counterReader // likewise
}

// An Option changes what a Plane makes of the kernel.
type Option func(*Plane)

// WithoutQueue leaves a queue that the kernel has unused, as on kernels that
// have none.
func WithoutQueue() Option { return func(p *Plane) { p.queue = QueueNone } }

// Open returns the plane of the current network namespace. It changes nothing
// and adopts what an earlier process left there.
func Open(log *slog.Logger, options ...Option) (*Plane, error) {
	handle, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		handle.Close()
		return nil, fmt.Errorf("open route connection: %w", err)
	}
	ns := namespace{handle}
	ports := &portIDs{ids: map[uint32]bool{}}
	p := &Plane{
		log: log, ns: ns, ports: ports, links: links, stale: true, members: map[string]member{},
		former: settings{}, settled: map[netip.Addr]place{},
		wire:      wire{ns: ns, ports: ports},
		lease:     leaser{wire: wire{ns: ns, ports: ports}, now: time.Now},
		holds:     holder{length: queueLength, buffer: queueBuffer, limit: HoldLimit, theirs: wire{ns: ns, ports: ports}},
		flows:     flowFinder{tracker: tracker{ns: ns}},
		tracker:   tracker{ns: ns},
		counters:  counterReader{wire: wire{ns: ns, ports: ports}},
		strangers: sightings{seen: map[post]sighting{}},
	}
	if _, err := p.wire.get(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	p.queue, p.refuses, p.counts = p.findQueue(), p.findRefusal(), p.findCounting()
	for _, change := range options {
		change(p)
	}
	return p, nil
}

// Close lets go of the connections. The kernel keeps what it holds.
func (p *Plane) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaseMu.Lock()
	defer p.leaseMu.Unlock()
	for _, m := range p.members {
		unix.Close(m.fd)
	}
	p.members = map[string]member{}
	p.wire.close()
	p.lease.wire.close()
	p.holds.close()
	p.flows.close()
	p.tracker.close()
	p.counters.close()
	p.links.Close()
	return p.ns.handle.Close()
}

// Held returns the index of the map that the kernel holds (rule P11). ok is
// false when it holds none.
func (p *Plane) Held() (index uint64, ok bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	err = p.wire.read(func(c *nftables.Conn) error {
		present, err := ourTables(c)
		if err != nil || !slices.Contains(present, inet) {
			return err
		}
		elements, err := c.GetSetElements(&nftables.Set{Table: tableOf(inet), Name: setHeld})
		for _, e := range elements {
			if i, is := heldIndex(e.Key); is {
				index, ok = max(index, i), true
			}
		}
		return err
	})
	if err != nil {
		return 0, false, fmt.Errorf("read held index: %w", err)
	}
	return index, ok, nil
}

// Resync forgets what we believe the kernel holds: the next Apply reads it
// and repairs what differs.
func (p *Plane) Resync() {
	p.mu.Lock()
	p.stale = true
	p.mu.Unlock()
	p.leaseMu.Lock()
	p.lease.known = false
	p.leaseMu.Unlock()
}

// Apply makes the kernel hold the ruleset. Rules that stand stay, sets get
// the difference, all of it in one transaction; addresses and MACs follow
// after it, or go before it. Applying what stands already changes nothing.
//
// It returns ErrOlder, and changes nothing, if the kernel holds a newer map
// (rule P11). What concerns one service alone (ErrNoInterface, ErrOwnAddress,
// UnsupportedError) is a PartialError: all the rest has been applied, and that
// service as far as it can be. Whether it can be carried meanwhile is looked at
// after Resync alone, so that every other map is as quick as without it.
func (p *Plane) Apply(rs Ruleset) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := rs.check(); err != nil {
		return fmt.Errorf("apply map %d: %w", rs.Index, err)
	}
	rs, _ = rs.with(p.queue)
	if !p.refuses {
		rs = rs.unrefusing()
	}
	if !p.counts {
		rs = rs.uncounting()
	}
	err := p.apply(rs)
	if err != nil && !p.stale && !errors.Is(err, ErrOlder) {
		// Somebody changed the kernel behind us: read it, and try again.
		p.stale = true
		err = p.apply(rs)
	}
	if err == nil {
		err = p.refused.err()
	}
	if err != nil {
		return fmt.Errorf("apply map %d: %w", rs.Index, err)
	}
	return nil
}

func (p *Plane) apply(rs Ruleset) error {
	shape := shapeOf(rs)
	quick := !p.stale && shape == p.asked
	var k kernel
	believed := p.have
	if !quick {
		err := p.wire.read(func(c *nftables.Conn) error {
			var err error
			k, err = readKernel(c)
			return err
		})
		if err != nil {
			return fmt.Errorf("read kernel: %w", err)
		}
		p.have = k.contents
		p.have.buckets = maps.Clone(p.have.buckets) // build makes use of the other
		p.stale = true                              // until all that follows is done
	}
	if p.have.hasHeld {
		p.held = max(p.held, p.have.held)
	}
	if rs.Index < p.held {
		return fmt.Errorf("%w: map %d", ErrOlder, p.held)
	}
	p.holds.narrow(rs)
	if quick {
		return p.update(p.refused.withRules(rs))
	}
	before, added := p.shape, p.added
	if err := p.rebuild(rs, k, shape); err != nil {
		return err
	}
	if before == p.shape && (p.rewritten || p.added > added || !k.contents.equal(believed)) {
		p.repairs.Add(1)
	}
	return nil
}

// Repairs counts how often Apply found something of ours that somebody else
// had changed or removed, and put it right.
func (p *Plane) Repairs() uint64 { return p.repairs.Load() }

// update writes what differs of the sets: the structure stands.
func (p *Plane) update(rs Ruleset) error {
	want := contentsOf(rs)
	want.closeAfter(p.have, rs.Services)
	if err := p.wire.transact(func(c *nftables.Conn) error { return fill(c, p.have, want) }); err != nil {
		return fmt.Errorf("write sets: %w", err)
	}
	p.have, p.held = want, rs.Index
	p.holds.allow(rs)
	return nil
}

// rebuild compares all that there is with the ruleset: rules, addresses,
// MACs and settings. Going up, the rules come first; going down, the address.
func (p *Plane) rebuild(rs Ruleset, k kernel, asked string) error {
	refused, err := p.refuseOwn(rs.Services)
	if err != nil {
		return err
	}
	rs = refused.withRules(rs)
	plan, err := render(rs, p.queue)
	if err != nil {
		return err
	}
	if err := p.refuseMissing(&plan, refused); err != nil {
		return err
	}
	shape := asked + refused.text() // what is left out is another structure
	if err := p.removeAddresses(k.contents.shared, plan.contents.shared); err != nil {
		return err
	}
	former := p.formerSettings(k.former, plan.addresses)
	if err := p.restoreOthers(k.former, former); err != nil {
		return err
	}
	stands := k.has(plan)
	p.rewritten = !stands
	if !stands {
		p.tellRewritten(k, shape)
	}
	err = p.wire.transact(func(c *nftables.Conn) error {
		write := build
		if stands {
			write = refill
		}
		if err := write(c, k, plan); err != nil {
			return err
		}
		return fillFormer(c, k.former, former)
	})
	if err != nil {
		return fmt.Errorf("write rules: %w", err)
	}
	p.have, p.held, p.shape, p.asked, p.former = plan.contents, rs.Index, shape, asked, former
	p.holds.allow(rs)
	unread := p.settleAll(plan.addresses, refused)
	p.refused, p.watch = refused, watchedOf(plan.addresses)
	if unread != nil {
		return unread
	}
	if err := p.holds.open(); err != nil { // the set may be new
		return err
	}
	p.stale = false
	return nil
}

// tellRewritten logs that the rules differ from the plan: by a new version or
// other services, or because others changed what this process had written.
func (p *Plane) tellRewritten(k kernel, shape string) {
	switch {
	case p.shape == shape:
		p.log.Warn("rules changed by others: repaired", "tables_left", len(k.tables))
	case len(k.tables) > 0:
		p.log.Info("rules rewritten")
	}
}
