package sim

import (
	"bytes"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"earshot/coordinator"
	"earshot/raftstore"
)

// world is one cluster and all that surrounds it.
type world struct {
	setting
	timing   coordinator.Timing
	rng      *dice // of the models
	fate     *dice // of the schedule
	judge    *judge
	history  *history
	network  *network
	operator *operator
	wire     *wire
	clients  bool          // packets are sent
	drain    time.Duration // the services' limit
	logLevel slog.Level

	machines  []*node
	first     int  // nodes that form the cluster
	wiped     bool // a disk was emptied since the cluster was at rest
	processes sync.WaitGroup
	timers    sync.WaitGroup
	faults    int
	active    atomic.Int32 // faults that are not mended
	clock     atomic.Int64 // the bubble's time, seen from outside

	mu    sync.Mutex
	ended chan struct{}
}

// setting is what a run is to be like.
type setting struct {
	seed  uint64
	nodes int
	lease time.Duration
	debug bool
	until time.Duration
	quiet bool // no client sends anything
}

func newWorld(s setting) *world {
	timing, err := coordinator.NewTiming(s.lease, jiffy, 10*time.Second)
	if err != nil {
		panic(err)
	}
	clients := s.seed%4 == 1 && !s.quiet
	if !clients {
		timing.Settle = 0 // without packets, a bucket that is released is open
	}
	w := &world{
		setting: s, timing: timing, rng: newDice(s.seed, 1), fate: newDice(s.seed, 2),
		history: newHistory(), first: s.nodes, ended: make(chan struct{}), logLevel: slog.LevelInfo,
	}
	if s.debug {
		w.logLevel = slog.LevelDebug
	}
	w.judge = newJudge(w)
	w.network = newNetwork(w)
	w.operator = newOperator(w)
	w.wire, w.clients, w.drain = &wire{world: w, rng: newDice(s.seed, 3)}, clients, 5*time.Second
	if clients { // UDP flows use all of it
		w.drain = min(w.drain, 7*w.timing.Lease)
	}
	for i := range s.nodes {
		w.add(s.seed%4 == 3 && i == s.nodes-1)
	}
	return w
}

// add adds a machine.
func (w *world) add(witness bool) *node {
	n := newNode(w, len(w.machines))
	n.witness = witness
	w.judge.update(n.i, func(*opening) {})
	w.mu.Lock()
	w.machines = append(w.machines, n)
	w.mu.Unlock()
	return n
}

// all lists the machines.
func (w *world) all() []*node {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.machines
}

// peers is what every node's config lists.
func (w *world) peers() []string {
	var all []string
	for _, n := range w.all()[:w.first] {
		all = append(all, n.addr)
	}
	return all
}

// at is the machine that has the address.
func (w *world) at(addr string) *node {
	for _, n := range w.all() {
		if n.addr == addr {
			return n
		}
	}
	return nil
}

// over reports whether the run is ending.
func (w *world) over() bool {
	select {
	case <-w.ended:
		return true
	default:
		return false
	}
}

// after does something later, if the run lasts so long.
func (w *world) after(d time.Duration, f func()) {
	w.timers.Go(func() {
		_ = wait(d, w.ended)
		f()
	})
}

// lately delivers what lay in a buffer of a connection that was given up,
// when the way and the receiver are free.
func (w *world) lately(from, to *node, f func()) {
	w.timers.Go(func() {
		giveUp := make(chan struct{})
		timer := time.AfterFunc(5*time.Second, func() { close(giveUp) })
		defer timer.Stop()
		if w.network.carry(from.i, to.i, giveUp) == nil && !w.over() {
			f()
		}
	})
}

// leader is the node that leads, as far as one can say.
func (w *world) leader() *node {
	var found *node
	term := uint64(0)
	for _, n := range w.all() {
		p := n.running()
		if p == nil {
			continue
		}
		if l := p.store.Leadership(); l.Self && l.Term > term {
			found, term = n, l.Term
		}
	}
	return found
}

// everything is every bucket.
const everything = 1<<(webBuckets+dnsBuckets) - 1

// begin starts the cluster and waits until it answers for everything.
func (w *world) begin() bool {
	for _, n := range w.all() {
		w.after(w.fate.upTo(2*time.Second), n.start)
	}
	w.judge.demand(everything)
	if w.clients {
		w.timers.Go(w.wire.converse)
	}
	return w.settle("start", 60*time.Second+30*w.timing.Lease)
}

// end ends everything. The bubble has no goroutine left then, or synctest panics.
func (w *world) end() {
	w.judge.expect("end", 0)
	close(w.ended)
	for _, n := range w.all() {
		n.kill()
	}
	w.processes.Wait()
	w.timers.Wait()
	// Calls that nobody waits for end by themselves; time stands still when
	// the bubble's first goroutine has ended.
	time.Sleep(time.Minute)
}

// settle waits until the cluster is at rest: all nodes alive and followed,
// each bucket with its owner and nobody else, nothing moving.
func (w *world) settle(after string, limit time.Duration) bool {
	deadline := time.Now().Add(limit)
	for w.judge.ok() {
		synctest.Wait()
		why := w.unsettled()
		if why == "" {
			return true
		}
		if time.Now().After(deadline) {
			w.judge.fail("I2: not at rest %v after %s: %s", limit, after, why)
			return false
		}
		time.Sleep(w.timing.Lease / 2)
		w.judge.look()
	}
	return false
}

// unsettled says why the cluster is not at rest, or nothing.
func (w *world) unsettled() string {
	if n := w.active.Load(); n > 0 {
		return fmt.Sprintf("%d faults last", n)
	}
	leader := w.leader()
	if leader == nil {
		return "no leader"
	}
	st := leader.running().store.State()
	for _, n := range w.all() {
		p := n.running()
		switch {
		case p == nil:
			return n.name + " does not run"
		case p.stopped():
			return n.name + " is stopped"
		case st.Nodes[n.name].ServerID != p.store.ServerID():
			return n.name + " is no member"
		case st.Nodes[n.name].Failed:
			return n.name + " is failed"
		case st.Nodes[n.name].Rest > 0:
			return n.name + " rests"
		case len(st.Nodes[n.name].Unfit) > 0:
			return n.name + " is unfit"
		}
		if p.store.State().Epoch != st.Epoch {
			return n.name + " lags"
		}
	}
	if len(st.Services) != 2 {
		return "services are not defined"
	}
	if why := unowned(st); why != "" {
		return why
	}
	if ownerless := w.judge.look(); ownerless != 0 {
		return fmt.Sprintf("nobody opens %016x", ownerless)
	}
	if why := w.operator.check(st); why != "" {
		w.judge.fail("I5: %s", why)
	}
	w.compare(leader.name, st)
	return ""
}

// compare demands that all have made the same of the same log.
func (w *world) compare(leader string, st *raftstore.State) {
	want, err := st.Encode()
	for _, n := range w.all() {
		got := n.running().store.State()
		if got.Index != st.Index {
			continue
		}
		have, err2 := got.Encode()
		if err != nil || err2 != nil || !bytes.Equal(want, have) {
			w.judge.fail("I5: %s and %s have different states of index %d:\n%s\n%s", leader, n.name, st.Index, want, have)
		}
	}
}

// unowned says which bucket has no owner that serves, or former ones.
func unowned(st *raftstore.State) string {
	for _, name := range st.ServiceNames() {
		for b, slot := range st.Services[name].Map {
			if !st.Nodes[slot.Owner].Serves(name) {
				return fmt.Sprintf("%s/%d is owned by %q, which does not serve", name, b, slot.Owner)
			}
			if len(slot.From) > 0 {
				return fmt.Sprintf("%s/%d of %s is still draining at %v", name, b, slot.Owner, slot.From)
			}
		}
	}
	return ""
}
