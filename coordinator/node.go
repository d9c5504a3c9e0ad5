package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"earshot/nft"
	"earshot/raftstore"
)

// news is what this node knows of which map each node's kernel holds. It only
// rises, so news may come late, twice or never (rule P13).
type news struct {
	mu      sync.Mutex
	held    map[string]uint64
	changed chan struct{}
}

func newNews() *news {
	return &news{held: map[string]uint64{}, changed: make(chan struct{}, 1)}
}

// learn takes in what somebody said.
func (n *news) learn(held map[string]uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for node, index := range held {
		if index > n.held[node] {
			n.held[node] = index
			signal(n.changed)
		}
	}
}

// all returns a copy.
func (n *news) all() map[string]uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.held)
}

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
	node       string
	interfaces map[string]string
	store      Store
	kernel     Kernel
	news       *news
	log        *slog.Logger

	// onApplied is called after the kernel took a newer map or other sets.
	onApplied func(held uint64)
	// onUnfit is called when the node can serve other services than before.
	onUnfit func()

	drifted chan struct{}
	held    atomic.Uint64 // what the kernel is known to hold
	problem atomic.Pointer[string]
	unfit   atomic.Pointer[map[string]string] // never written to
	last    nft.Ruleset                       // what the kernel was told last; run's own
	told    bool
	before  opened // what the kernel let through when this process started
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
	r.before.held = held
	changed, cancel := r.store.Changed()
	defer cancel()
	retry := time.NewTimer(0)
	defer retry.Stop()
	compare := time.NewTicker(compareEvery)
	defer compare.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-r.news.changed:
		case <-retry.C:
		case <-r.drifted:
			r.doubt()
		case <-compare.C:
			r.doubt()
		}
		err := r.reconcile()
		r.complain(err)
		r.examine()
		if err != nil {
			retry.Reset(retryAfter)
			continue
		}
		if r.told {
			ready()
		}
	}
}

// drift says that somebody else changed what is ours in the kernel.
func (r *reconciler) drift() { signal(r.drifted) }

// examine looks whether this node can serve its services: a node can hear the
// cluster and be deaf on a service's segment.
func (r *reconciler) examine() {
	unfit := map[string]string{}
	for _, s := range r.last.Services {
		connected, err := r.kernel.Carrier(s.Interface)
		switch {
		case err != nil:
			unfit[s.Name] = err.Error()
		case !connected:
			unfit[s.Name] = fmt.Sprintf("interface %s has no carrier", s.Interface)
		}
	}
	if before := r.unfit.Swap(&unfit); before == nil && len(unfit) > 0 || before != nil && !maps.Equal(*before, unfit) {
		r.onUnfit()
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
	if !r.told && r.before.held > 0 && r.before.buckets == nil {
		if err := r.readBefore(st); err != nil {
			return err
		}
	}
	want := desired(st, r.node, r.news.all(), r.before, r.interfaces)
	// The index is written though nothing else differs: what this node has said
	// that its kernel holds must hold for a later process, too (rule P11).
	if r.told && reflect.DeepEqual(want, r.last) {
		return nil
	}
	if err := r.kernel.Apply(want); err != nil {
		return fmt.Errorf("apply map %d: %w", want.Index, err)
	}
	r.last, r.told = want, true
	r.advance(want.Index)
	return nil
}

// readBefore reads what an earlier process of this agent left open. It
// is asked for before the first write.
func (r *reconciler) readBefore(st *raftstore.State) error {
	buckets, err := r.kernel.Opened(st.ServiceNames())
	if err != nil {
		return err
	}
	r.before.buckets = buckets
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
	r.told, r.before = false, opened{}
	return r.reconcile()
}

func (r *reconciler) advance(index uint64) {
	if before := r.held.Swap(index); before != index {
		r.onApplied(index)
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
