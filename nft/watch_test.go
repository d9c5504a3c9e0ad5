package nft

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"

	"earshot/hashmode"
)

// watch runs Watch until the test's end; the channel tells of changes. It
// returns once Watch listens.
func (w *world) watch(p *Plane) <-chan struct{} {
	w.t.Helper()
	changes := make(chan struct{}, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		err := p.Watch(ctx, func() {
			select {
			case changes <- struct{}{}:
			default:
			}
		})
		if err != nil {
			w.t.Errorf("Watch: %v", err)
		}
	})
	w.t.Cleanup(func() { cancel(); running.Wait() })
	w.next(changes)
	return changes
}

// next waits for a change.
func (w *world) next(changes <-chan struct{}) {
	w.t.Helper()
	select {
	case <-changes:
	case <-time.After(5 * time.Second):
		w.t.Fatal("no change told in 5 s")
	}
}

// Our own transactions are no changes: between them and a foreign one, which
// comes by the same socket, Watch tells nothing.
func TestOwnChangesAreNotTold(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	must(t, p.Apply(Ruleset{Index: 1, Services: []Service{ownAll()}}))
	changes := w.watch(p)
	for i := range uint64(10) {
		must(t, p.Apply(Ruleset{Index: 2 + i, Services: []Service{web(buckets(0, hashmode.Bucket(i)), hashmode.Set{}, hashmode.Set{})}}))
		must(t, p.Lease(time.Now().Add(time.Hour)))
	}
	must(t, p.Apply(Ruleset{Index: 20, Services: []Service{ownAll(), other()}}))
	w.node.Do(func() {
		c, err := nftables.New()
		must(t, err)
		c.AddTable(&nftables.Table{Name: "theirs", Family: inet}) // not ours: not told
		c.AddChain(&nftables.Chain{Table: tableOf(inet), Name: "stranger"})
		must(t, c.Flush())
	})
	w.next(changes)
	select {
	case <-changes:
		t.Error("told twice of one foreign change")
	case <-time.After(50 * time.Millisecond):
	}
}
