package nft

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/nftables"

	"earshot/hashmode"
)

const (
	// TheirsTime is how long a flow counts as a peer's after the verdict
	// Theirs. It is shorter than the time after which the peer's conntrack
	// forgets a flow, so that the peer is asked again while it still knows.
	TheirsTime = 10 * time.Second
	// HoldLimit is the longest that a packet waits for its verdict, give or
	// take a quarter of it.
	HoldLimit = 3 * time.Second
)

// ErrQueueTaken: another program has bound our queue.
var ErrQueueTaken = errors.New("the queue is taken")

// ErrHolding: Hold runs already.
var ErrHolding = errors.New("packets are being held already")

// holder knows the packets that wait, and what may be let in.
type holder struct {
	length uint32        // packets that the queue has room for
	buffer int           // of its socket, in bytes
	limit  time.Duration // HoldLimit

	mu      sync.Mutex // guards what follows; Decide keeps it while it tells the kernel
	queue   *queue     // nil while Hold does not run
	session HeldID     // in the high half of the identifiers of this Hold
	waiting map[HeldID]heldPacket
	byAddr  map[netip.Addr]address
	may     map[string]hashmode.Set // buckets that a Pass may let packets into
	use     HoldUse

	// narrowed, if set, is called after narrow: for tests.
	narrowed func()

	reading atomic.Bool   // the queue is ours: the rules may give packets to it
	judged  atomic.Uint64 // the newest packet that judge was given; its HeldID

	// until ends the lease, as far as this process knows.
	until atomic.Pointer[time.Time]

	theirsMu sync.Mutex // guards theirs
	theirs   wire
}

type heldPacket struct {
	flow    Flow
	service string
	bucket  hashmode.Bucket
	opens   bool
	since   time.Time
}

// Hold binds the queue, calls ready once it is bound, and gives judge what is
// held until ctx ends, in batches as it comes. judge must return soon, for
// nothing is read meanwhile, and keep nothing of the slice. What is undecided
// when Hold returns is dropped by the kernel. It returns ErrQueueTaken when
// another program has the queue.
func (p *Plane) Hold(ctx context.Context, ready func(), judge func([]HeldPacket)) error {
	if p.queue == QueueNone {
		return fmt.Errorf("hold packets: %w", &UnsupportedError{Feature: "a queue for packets", Needs: queueFeature(QueueExpression).needs + ", or " + queueFeature(QueueTarget).needs})
	}
	q, err := p.openQueue()
	if err != nil {
		return fmt.Errorf("hold packets: %w", err)
	}
	h := &p.holds
	if !h.begin(q) {
		return errors.Join(fmt.Errorf("hold packets: %w", ErrHolding), q.close())
	}
	defer h.end(q)
	defer h.shut()
	stop := context.AfterFunc(ctx, func() { _ = q.interruptAt(time.Unix(1, 0)) })
	defer stop()
	var batch []HeldPacket
	var renewed time.Time
	for told := false; ; {
		batch = batch[:0]
		newest := h.judged.Load()
		err := q.interruptAt(time.Now().Add(h.limit / 4))
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = q.packets(func(id uint32, payload []byte) {
				newest = uint64(h.session) | uint64(id)
				if held, ok := h.hold(id, payload); ok {
					batch = append(batch, held)
				}
			})
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("hold packets: %w", err)
		}
		if now := time.Now(); q.bound && now.Sub(renewed) >= h.limit/4 {
			h.reading.Store(true)
			if err := h.open(); err != nil {
				return fmt.Errorf("hold packets: %w", err)
			}
			renewed = now
		}
		if q.bound && !told {
			told = true
			ready()
		}
		if len(batch) > 0 {
			judge(batch)
		}
		h.judged.Store(newest)
		h.expire(time.Now().Add(-h.limit))
	}
}

// Queued tells which packet was the last that the kernel gave to the queue, and
// which the last that judge was given, or that was dropped on the way to it:
// those between are still to be read. It looks as if there were none where
// nothing is held.
func (p *Plane) Queued() (last, judged HeldID) {
	h := &p.holds
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.queue == nil {
		return 0, 0
	}
	use, ok := h.queue.ns.readQueueUse()
	if !ok {
		return 0, 0
	}
	return h.session | HeldID(uint32(use.sequence)), HeldID(h.judged.Load())
}

// begin makes q the queue of the holder, unless it has one.
func (h *holder) begin(q *queue) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.queue != nil {
		return false
	}
	h.queue, h.waiting = q, map[HeldID]heldPacket{}
	h.session += 1 << 32
	h.judged.Store(uint64(h.session))
	return true
}

// end lets go of the queue: the kernel drops what waits in it.
func (h *holder) end(q *queue) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.use.Lost += q.lost()
	h.use.Dropped += uint64(len(h.waiting))
	h.queue, h.waiting = nil, nil
	_ = q.close() // nothing is lost with it
}

// hold remembers a packet. One that cannot be read, or that is of no service
// (any more), is dropped.
func (h *holder) hold(id uint32, payload []byte) (HeldPacket, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a, ok := readPacket(payload)
	to, known := h.byAddr[a.flow.Server.Addr()]
	if !ok || !known {
		h.use.Dropped++
		_ = h.queue.verdicts([]queueVerdict{{id, false}}) // if it fails, the queue is gone, and the packet with it
		return HeldPacket{}, false
	}
	service, spec := to.decider(uint8(a.protocol), a.dport())
	bucket := spec.Bucket(a.flow.Client, a.dport())
	held := HeldPacket{ID: h.session | HeldID(id), Service: service.Name, Bucket: bucket, Flow: a.flow, Opens: a.opens}
	h.waiting[held.ID] = heldPacket{held.Flow, held.Service, held.Bucket, held.Opens, time.Now()}
	h.use.Held++
	return held, true
}

// Decide gives verdicts on held packets. Each packet is decided about once:
// later decisions, and those on packets that are gone, are ignored. A Pass
// drops the packet if by now its bucket is none that this node owns, inherits
// or takes, or if the lease has ended. What is passed is known to conntrack
// when Decide returns.
func (p *Plane) Decide(decisions []Decision) error {
	theirs, err := p.holds.decide(decisions)
	return errors.Join(err, p.holds.remember(theirs))
}

// decide tells the kernel, and returns the flows that are a peer's.
func (h *holder) decide(decisions []Decision) (theirs []Flow, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.queue == nil {
		return nil, nil
	}
	leased := h.leased()
	var all []queueVerdict
	for _, d := range decisions {
		held, ok := h.waiting[d.ID]
		if !ok {
			continue
		}
		delete(h.waiting, d.ID)
		v := queueVerdict{id: uint32(d.ID)}
		switch {
		case d.Verdict == Pass && leased && h.may[held.service].Has(held.bucket):
			h.use.Passed++
			v.accept = true
		case d.Verdict == Theirs:
			h.use.Theirs++
			if !held.opens {
				theirs = append(theirs, held.flow)
			}
		default:
			h.use.Dropped++
		}
		all = append(all, v)
	}
	if err := h.queue.verdicts(all); err != nil {
		return theirs, fmt.Errorf("decide about held packets: %w", err)
	}
	return theirs, nil
}

func (h *holder) leased() bool {
	until := h.until.Load()
	return until != nil && time.Now().Before(*until)
}

// expire drops what has waited since before then.
func (h *holder) expire(before time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var old []queueVerdict
	for id, held := range h.waiting {
		if held.since.Before(before) {
			delete(h.waiting, id)
			old = append(old, queueVerdict{uint32(id), false})
		}
	}
	h.use.Expired += uint64(len(old))
	_ = h.queue.verdicts(old) // a queue that is gone has dropped them
}

// narrow takes from what may be let in all that the ruleset does not have.
// It is called before the kernel is told: once a bucket has been released, no
// verdict that was on its way opens a flow in it.
func (h *holder) narrow(rs Ruleset) {
	h.mu.Lock()
	next := map[string]hashmode.Set{}
	for _, s := range rs.Services {
		if !h.decidesAs(rs, s.Address) {
			continue // the numbers of its buckets mean other packets
		}
		old := h.may[s.Name]
		next[s.Name] = old.Intersect(passable(s))
	}
	h.may = next
	h.mu.Unlock()
	if h.narrowed != nil {
		h.narrowed()
	}
}

// decidesAs reports whether packets to the address come into the same buckets
// under the ruleset as under the one before.
func (h *holder) decidesAs(rs Ruleset, addr netip.Addr) bool {
	var next []Service
	for _, s := range rs.Services {
		if s.Address == addr {
			next = append(next, s)
		}
	}
	slices.SortFunc(next, func(a, b Service) int { return cmp.Compare(a.Name, b.Name) })
	return slices.EqualFunc(h.byAddr[addr].Services, next, func(a, b Service) bool {
		return a.Name == b.Name && a.Hash == b.Hash && slices.Equal(a.Ports, b.Ports)
	})
}

// giveUp drops what is held for buckets whose numbers mean other packets under
// the ruleset: the clients ask again.
func (h *holder) giveUp(rs Ruleset) {
	var old []queueVerdict
	for id, held := range h.waiting {
		if addr := held.flow.Server.Addr(); !h.decidesAs(rs, addr) {
			delete(h.waiting, id)
			old = append(old, queueVerdict{uint32(id), false})
		}
	}
	if len(old) > 0 {
		h.use.Dropped += uint64(len(old))
		_ = h.queue.verdicts(old) // a queue that is gone has dropped them
	}
}

// allow follows a ruleset that the kernel holds.
func (h *holder) allow(rs Ruleset) {
	shared, err := byAddress(rs.Services)
	if err != nil {
		return // such a ruleset was never applied
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.giveUp(rs)
	h.may, h.byAddr = map[string]hashmode.Set{}, shared
	for _, s := range rs.Services {
		h.may[s.Name] = passable(s)
	}
}

func passable(s Service) hashmode.Set { return s.Own.Union(s.Inherit).Union(s.Take) }

// open has the rules give packets to the queue for as long as one may wait in
// it, if the queue is ours.
func (h *holder) open() error {
	if !h.reading.Load() {
		return nil
	}
	return h.fillReading(elements(inet, h.limit))
}

// shut has the rules drop what they would hold: others may bind the queue.
func (h *holder) shut() {
	h.reading.Store(false)
	_ = h.fillReading(nil) // what is in the set ends by itself
}

// fillReading replaces the elements of the set. Where rules hold nothing there is none.
func (h *holder) fillReading(with []nftables.SetElement) error {
	err := h.changeTheirs(func(c *nftables.Conn) error {
		s := &nftables.Set{Table: tableOf(inet), Name: setReading, HasTimeout: true}
		c.FlushSet(s)
		if len(with) == 0 {
			return nil
		}
		return c.SetAddElements(s, with)
	})
	if err != nil && !errors.Is(err, ErrNoTable) {
		return fmt.Errorf("tell the rules whose the queue is: %w", err)
	}
	return nil
}

// close lets go of the connection for peers' flows; Hold closes its own.
func (h *holder) close() {
	h.theirsMu.Lock()
	defer h.theirsMu.Unlock()
	h.theirs.close()
}

// HoldUse tells what became of held packets.
func (p *Plane) HoldUse() HoldUse {
	h := &p.holds
	h.mu.Lock()
	defer h.mu.Unlock()
	use := h.use
	use.Waiting = len(h.waiting)
	if h.queue != nil {
		use.Lost += h.queue.lost()
	}
	return use
}
