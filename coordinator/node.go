package coordinator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"earshot/hashmode"
	"earshot/nft"
	"earshot/raftstore"
)

// signal wakes a waiter without waiting for one.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// reconciler keeps the kernel at what is desired under the newest state. It
// is the only writer of maps (rule P11).
type reconciler struct {
	node   string
	wiring *wiring
	store  Store
	kernel Kernel
	news   *news
	log    *slog.Logger

	// onHeld is called after the kernel took a newer map.
	onHeld func(held uint64)
	// leased reports whether this process has put a lease into the kernel.
	leased func() bool
	// release tells when what was given away is closed for certain.
	release *release
	// fitness is told of the services' wires.
	fitness *fitness
	// onMended is called when the kernel has been compared with the map, and
	// mended, after others changed something.
	onMended func()
	// onAppeared is called when the kernel has got a shared address that it did
	// not have: the node's lease may be older, and so what it announced then.
	onAppeared func()

	drifted  chan struct{}
	rewired  chan struct{} // wiring has changed
	held     atomic.Uint64 // what the kernel is known to hold
	problem  atomic.Pointer[string]
	last     nft.Ruleset // what the kernel was told last; run's own
	told     bool
	refused  map[string]string      // why this node cannot carry a service, by name
	regained bool                   // one of those that were refused is carried, which is to be announced
	opened   opened                 // what the kernel lets through: at first, what it did when this process started
	through  atomic.Pointer[opened] // the same for others; never written to
	settle   settling
	parting  parting
	disown   *disowner
	endings  *endings
	// onEnded is called when the kernel has closed buckets whose drain ends.
	onEnded func()
	part    nft.Ruleset   // last, with the drains that end
	patient time.Duration // how long a map may wait for disown
}

// retryAfter is the wait after an attempt that failed.
const retryAfter = 200 * time.Millisecond

// compareEvery is the time between two comparisons of all that the kernel
// holds with what it should: not every change by others is told.
const compareEvery = 10 * time.Second

// errBehind: the kernel holds a newer map than this node's log has, and may
// answer by it still.
var errBehind = errors.New("the kernel holds a newer map than this node knows of: waiting to catch up")

// run reconciles until ctx ends. It calls ready after the first success.
func (r *reconciler) run(ctx context.Context, ready func()) error {
	held, _, err := r.kernel.Held()
	if err != nil {
		return fmt.Errorf("read the kernel's map: %w", err)
	}
	r.held.Store(held)
	left, err := r.kernel.LeaseLeft()
	if err != nil {
		return fmt.Errorf("read the kernel's lease: %w", err)
	}
	r.opened.held, r.opened.answered = held, left > 0
	r.fitness.begin(held > 0 && left > 0)
	changed, cancel := r.store.Changed()
	defer cancel()
	retry := time.NewTimer(0)
	defer retry.Stop()
	again := time.NewTicker(refusedRetry)
	defer again.Stop()
	settled := time.NewTimer(0)
	defer settled.Stop()
	compare := time.NewTicker(compareEvery)
	defer compare.Stop()
	drifted := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-r.news.changed:
		case <-r.endings.added:
		case <-retry.C:
		case <-r.rewired:
		case <-again.C:
			if len(r.refused) == 0 {
				continue
			}
			r.doubt()
		case <-r.drifted:
			r.doubt()
			drifted = true
		case <-compare.C:
			r.doubt()
		case <-settled.C:
		}
		err := r.reconcile()
		r.complain(err)
		r.examine()
		if at := r.settle.next(); !at.IsZero() {
			settled.Reset(time.Until(at))
		}
		if r.parting.waits {
			settled.Reset(partingLook)
		}
		if err != nil {
			retry.Reset(retryAfter)
			continue
		}
		if r.told {
			ready()
		}
		if r.told && (drifted || r.regained) {
			drifted, r.regained = false, false
			r.onMended()
		}
	}
}

// letsThrough is what the kernel lets through, for others than run.
func (r *reconciler) letsThrough() opened {
	if o := r.through.Load(); o != nil {
		return *o
	}
	return opened{}
}

// drift says that somebody else changed what is ours in the kernel.
func (r *reconciler) drift() { signal(r.drifted) }

// examine looks whether this node can hear its services' clients: it can hear
// the cluster and be deaf on a service's segment.
func (r *reconciler) examine() {
	deaf := map[string]string{}
	for _, s := range r.last.Services {
		if why := r.reach(s); why != "" {
			deaf[s.Name] = why
		}
	}
	before := r.fitness.wire(deaf)
	for _, s := range r.last.Services {
		was, is := before[s.Name], deaf[s.Name]
		switch {
		case is != "" && is != was:
			r.log.Warn("cannot serve", "service", s.Name, "reason", is)
		case is == "" && was != "":
			r.log.Info("can serve again", "service", s.Name)
		}
	}
}

// doubt has the next reconcile read the kernel and repair what differs.
func (r *reconciler) doubt() {
	r.told = false
	r.kernel.Resync()
}

// reconcile brings the kernel to the newest state. Until the state machine
// has caught up with what the kernel holds, it writes nothing (rule P11).
func (r *reconciler) reconcile() error {
	st := r.store.State()
	if st.Index == 0 {
		return nil
	}
	if held := r.held.Load(); st.Index < held {
		return r.catchUp(held)
	}
	if !r.told && r.opened.held > 0 && r.opened.buckets == nil {
		if err := r.readOpened(st); err != nil {
			return err
		}
	}
	r.opened.answered = r.opened.answered || r.leased()
	known := r.news.all()
	fresh := r.settle.look(st, r.node, known, r.opened, time.Now())
	busy := r.parting.look(st, r.node, known, r.opened, time.Now())
	part := desired(st, r.node, knowledge{known, r.opened, fresh, busy, r.wiring.all()})
	ended, lost := r.endings.of(st, r.node)
	if len(lost) > 0 {
		r.disown.lose(part, func(s nft.Service) hashmode.Set { return lost[s.Name] })
	}
	want := without(part, ended)
	asks := askingIn(st, r.node, known, r.opened, want)
	// The index is written though nothing else differs: what this node has said
	// that its kernel holds must hold for a later process, too (rule P11).
	if r.told && reflect.DeepEqual(want, r.last) {
		r.opened.asking = asks // a release that was heard changes no set at first
		now := r.opened
		r.through.Store(&now)
		r.close(ended)
		return nil
	}
	if r.last.Index == 0 {
		r.disown.begin(part, r.opened.buckets)
	}
	r.disown.await(want, r.patient)
	if err := r.carry(want); err != nil {
		return err
	}
	r.disown.applied(r.part, part)
	now := openedBy(want)
	now.answered, now.asking = r.opened.answered, asks
	closed := r.opened.outdated(st) || closes(r.opened, r.last, want)
	appeared := appears(r.last, want)
	r.last, r.part, r.told, r.opened = want, part, true, now
	r.through.Store(&now)
	r.advance(want.Index)
	r.release.applied(releasedUnder(st, r.node, now), closed)
	r.close(ended)
	if appeared {
		r.onAppeared()
	}
	return nil
}

// appears reports whether a ruleset has an address, or has it at a place, that
// the one before had not.
func appears(before, now nft.Ruleset) bool {
	return slices.ContainsFunc(now.Services, func(s nft.Service) bool {
		return !slices.ContainsFunc(before.Services, func(b nft.Service) bool {
			return b.Address == s.Address && b.Interface == s.Interface && bytes.Equal(b.MAC, s.MAC)
		})
	})
}

// close says that the kernel has closed buckets whose drain ends.
func (r *reconciler) close(ended map[string]hashmode.Set) {
	if r.endings.raise(ended, endDecided, endClosed) {
		r.onEnded()
	}
}

// readOpened reads what an earlier process of this agent left open. It is
// asked for before the first write.
func (r *reconciler) readOpened(st *raftstore.State) error {
	buckets, err := r.kernel.Opened(st.ServiceNames())
	if err != nil {
		return err
	}
	r.opened.buckets = buckets
	return nil
}

// catchUp waits for the map of index held, unless it is from a cluster that is
// no more: then the log ends before it, and no lease of that cluster runs.
func (r *reconciler) catchUp(held uint64) error {
	left, err := r.kernel.LeaseLeft()
	if err != nil {
		return err
	}
	if left > 0 || r.store.LastCommand() >= held {
		return errBehind
	}
	if err := r.kernel.Forget(); err != nil {
		return err
	}
	r.log.Warn("the kernel held a map of another cluster: forgotten", "map", held)
	r.held.Store(0)
	r.told, r.opened = false, opened{}
	return r.reconcile()
}

func (r *reconciler) advance(index uint64) {
	if before := r.held.Swap(index); before != index {
		r.onHeld(index)
	}
}

// complain keeps the newest trouble for the status and logs each once.
func (r *reconciler) complain(err error) {
	if errors.Is(err, errBehind) {
		return // as every restart is for a moment
	}
	if err == nil {
		if r.problem.Swap(nil) != nil {
			r.log.Info("kernel holds the map again", "map", r.held.Load())
		}
		return
	}
	text := err.Error()
	if before := r.problem.Swap(&text); before == nil || *before != text {
		r.log.Error("cannot bring the kernel to the map", "error", err)
	}
}
