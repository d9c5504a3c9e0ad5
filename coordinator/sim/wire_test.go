package sim

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"earshot/hashmode"
	"earshot/nft"
	"earshot/raftstore"
)

// wire is the segment with the clients, and what each kernel knows of their
// flows. A packet reaches all kernels, not all at one time.
//
// The judge's masks say who opens what; here is the rest of rule P24: a packet
// that is held and passed is answered by nobody else, and a flow keeps its node
// while a bucket moves.
type wire struct {
	world *world
	rng   *dice

	mu     sync.Mutex
	tables []*table
	open   []packet // UDP flows that clients go on with
	sent   int
	held   int // packets that were held, and of these
	passed int // were passed
}

// packet is one that a client sends: a SYN, or a datagram.
type packet struct {
	service string
	bucket  hashmode.Bucket
	flow    nft.Flow
	life    time.Duration // of a TCP connection
	until   time.Time     // a UDP flow's last datagram
}

func (p packet) tcp() bool { return p.flow.Protocol == nft.TCP }

// table is what one kernel knows of flows. It outlives processes.
type table struct {
	sets     map[string]nft.Service
	flows    map[nft.Flow]flow
	theirs   map[nft.Flow]time.Time
	waiting  map[nft.HeldID]packet
	queue    chan nft.HeldPacket // nil while nobody reads it
	last     nft.HeldID
	judged   nft.HeldID // what its process was given last
	deafened time.Time  // when the carrier came or went
}

func newTable() *table {
	return &table{sets: map[string]nft.Service{}, flows: map[nft.Flow]flow{}, theirs: map[nft.Flow]time.Time{}}
}

// flow is a confirmed entry of conntrack.
type flow struct {
	packet
	began time.Time
	index uint64 // the kernel's map then
	seen  time.Time
}

// udpTimeout is conntrack's.
const udpTimeout = 30 * time.Second

func (f flow) alive(now time.Time) bool {
	if f.tcp() {
		return now.Before(f.began.Add(f.life))
	}
	return now.Before(f.seen.Add(udpTimeout))
}

// converse has clients send until the run ends.
func (v *wire) converse() {
	for wait(v.rng.around(v.world.timing.Lease/6), v.world.ended) == nil {
		v.send(v.next(), nil)
	}
}

// send brings a packet to all kernels but one.
func (v *wire) send(p packet, but *node) {
	for _, n := range v.world.all() {
		if n.witness || n == but {
			continue
		}
		delay := v.rng.around(200 * time.Microsecond)
		if v.rng.chance(0.05) {
			delay = v.rng.upTo(v.world.timing.Lease / 2)
		}
		time.AfterFunc(delay, func() {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.receive(n, p)
		})
	}
}

// next is a new flow's first packet, or another of one that goes on.
func (v *wire) next() packet {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	v.open = slices.DeleteFunc(v.open, func(p packet) bool { return now.After(p.until) })
	if len(v.open) > 0 && v.rng.chance(0.5) {
		return v.open[v.rng.below(len(v.open))]
	}
	p := v.syn("web", hashmode.Bucket(v.rng.below(webBuckets)))
	if v.rng.chance(0.3) {
		p.service, p.bucket = "dns", hashmode.Bucket(v.rng.below(dnsBuckets))
	}
	if len(v.open) < 4 && v.rng.chance(0.2) {
		p.flow.Protocol = nft.UDP
		p.until = now.Add(v.rng.upTo(40 * v.world.timing.Lease))
		v.open = append(v.open, p)
	}
	return p
}

// syn opens a connection. The caller holds the lock.
func (v *wire) syn(service string, b hashmode.Bucket) packet {
	v.sent++
	p := packet{service: service, bucket: b}
	client := netip.AddrFrom4([4]byte{198, 18, byte(v.sent >> 8), byte(v.sent)})
	p.flow = nft.Flow{
		Protocol: nft.TCP,
		Client:   netip.AddrPortFrom(client, uint16(1024+v.sent>>16)),
		Server:   netip.MustParseAddrPort("192.0.2.20:80"),
	}
	p.life = v.rng.upTo(v.world.drain * 4 / 5)
	return p
}

// table returns the kernel's. The caller holds the lock.
func (v *wire) table(n *node) *table {
	for len(v.tables) <= n.i {
		v.tables = append(v.tables, newTable())
	}
	return v.tables[n.i]
}

// verdict is what the rules do with a packet.
type verdict int

const (
	drops verdict = iota
	takes
	holds
)

// receive is the rules of package nft, for a packet of each kind. The caller
// holds the lock.
func (v *wire) receive(n *node, p packet) {
	t := v.table(n)
	if !v.hears(n) {
		return
	}
	switch v.judge(t, p) {
	case takes:
		// It is past the look-up, and confirmed a little later.
		time.AfterFunc(v.rng.upTo(4*time.Millisecond), func() {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.accept(n, p)
		})
	case holds:
		v.hold(t, p)
	}
}

// hears reports whether packets get to a node's rules and past its lease.
func (v *wire) hears(n *node) bool {
	v.world.judge.mu.Lock()
	defer v.world.judge.mu.Unlock()
	o := v.world.judge.openings[n.i]
	return !o.deaf && time.Now().Before(o.until)
}

func (v *wire) judge(t *table, p packet) verdict {
	s, now := t.sets[p.service], time.Now()
	known := t.flows[p.flow].alive(now)
	switch {
	case s.Own.Has(p.bucket):
		return takes
	case s.Drain.Has(p.bucket):
		if known && !p.tcp() {
			return takes
		}
	case s.Inherit.Has(p.bucket), s.Take.Has(p.bucket):
		switch {
		case known, p.tcp() && s.Inherit.Has(p.bucket):
			return takes
		case p.tcp() || !now.Before(t.theirs[p.flow]):
			return holds
		}
	}
	return drops
}

func (v *wire) hold(t *table, p packet) {
	if t.queue == nil {
		return
	}
	t.last++
	select {
	case t.queue <- nft.HeldPacket{ID: t.last, Service: p.service, Bucket: p.bucket, Flow: p.flow, Opens: p.tcp()}:
		t.waiting[t.last] = p
		v.held++
	default:
	}
}

// keeps reports whether a bucket is one in which the table's node answers, at
// least, the flows that it knows.
func (t *table) keeps(service string, b hashmode.Bucket) bool {
	s := t.sets[service]
	return s.Own.Has(b) || s.Inherit.Has(b) || s.Drain.Has(b) || s.Take.Has(b)
}

// accept enters a flow that a node answers. The caller holds the lock.
func (v *wire) accept(n *node, p packet) {
	now, t := time.Now(), v.table(n)
	for i, other := range v.tables {
		o := v.world.all()[i]
		if f := other.flows[p.flow]; o != n && f.alive(now) && other.keeps(p.service, p.bucket) && v.hears(o) {
			v.world.judge.fail("I1: %s and %s both answer %v of %s/%d (%s since %v)", n.name, o.name, p.flow, p.service, p.bucket, o.name, now.Sub(f.began))
		}
	}
	f, known := t.flows[p.flow]
	if !known || !f.alive(now) {
		f = flow{packet: p, began: now, index: t.index(n)}
	}
	f.seen = now
	t.flows[p.flow] = f
}

func (t *table) index(n *node) uint64 { return n.world.judge.heldBy(n.i) }

// heldBy is the map that a kernel holds.
func (j *judge) heldBy(i int) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.openings[i].held
}

// follow has the table hold a ruleset, and looks whether connections are lost
// by that for which nobody has a reason (I3).
func (v *wire) follow(n *node, self raftstore.Node, rs nft.Ruleset) {
	v.mu.Lock()
	defer v.mu.Unlock()
	t, now := v.table(n), time.Now()
	v.tease(n, t, rs)
	before := table{sets: t.sets}
	t.sets = map[string]nft.Service{}
	for _, s := range rs.Services {
		t.sets[s.Name] = s
	}
	excused := self.Cut || self.Failed || v.world.operator.mayCut(n)
	for key, f := range t.flows {
		switch {
		case !f.alive(now):
			delete(t.flows, key)
		case !f.tcp() || excused || self.Changed > f.index || t.deafened.After(f.began) || !v.hears(n):
		case before.keeps(f.service, f.bucket) && !t.keeps(f.service, f.bucket):
			v.world.judge.fail("I3: %s gives up %s/%d by map %d though %v has %v to go there", n.name, f.service, f.bucket, rs.Index, f.flow, f.began.Add(f.life).Sub(now))
		}
	}
}

// tease sends a SYN at the worst moment: the rules that a node is about to
// change let it through, and it is confirmed when they are another's.
func (v *wire) tease(n *node, t *table, rs nft.Ruleset) {
	if !v.world.clients || !v.rng.chance(0.5) {
		return
	}
	for _, s := range rs.Services {
		before := t.sets[s.Name]
		for b := range before.Own.Union(before.Inherit).Minus(s.Own).Minus(s.Inherit).All() {
			p := v.syn(s.Name, b)
			v.receive(n, p)
			v.send(p, n)
			return
		}
	}
}

// restart forgets what a kernel knew: the machine was restarted.
func (v *wire) restart(n *node) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.table(n)
	v.tables[n.i] = newTable()
}

// carrier notes that a node's cable went or came.
func (v *wire) carrier(n *node) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.table(n).deafened = time.Now()
}
