package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"earshot/hashmode"
	"earshot/nft"
)

// rememberingKernel says when it was told to forget flows.
type rememberingKernel struct {
	modelKernel
	takes  time.Duration
	fails  int
	forgot []hashmode.Set
}

func (k *rememberingKernel) Disown(_ []nft.Service, buckets map[string]hashmode.Set) error {
	time.Sleep(k.takes)
	if k.fails > 0 {
		k.fails--
		return errors.New("no conntrack")
	}
	k.forgot = append(k.forgot, buckets["web"])
	return nil
}

// part is a ruleset in which a node has to do with some of 8 buckets.
func part(index uint64, own, inherit, drain, take hashmode.Set) nft.Ruleset {
	return nft.Ruleset{Index: index, Services: []nft.Service{{
		Name: "web", Hash: hashmode.Spec{Buckets: 8}, Own: own, Inherit: inherit, Drain: drain, Take: take,
	}}}
}

func disowning(t *testing.T, k *rememberingKernel) *disowner {
	d := newDisowner(k, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- d.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestDisownWhatIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &rememberingKernel{}
		d := disowning(t, k)
		none := hashmode.Set{}
		before := part(1, hashmode.NewSet(0), hashmode.NewSet(1), hashmode.NewSet(2, 3), hashmode.NewSet(4))
		after := part(2, hashmode.NewSet(1), none, hashmode.NewSet(0, 2), none)
		d.applied(before, after)
		time.Sleep(time.Second)
		if len(k.forgot) != 1 || k.forgot[0].String() != "3-4" {
			t.Fatalf("disowned %v; 3 and 4 are given up", k.forgot)
		}
		d.applied(after, after)
		time.Sleep(time.Second)
		if len(k.forgot) != 1 {
			t.Fatalf("disowned %v, though nothing more is given up", k.forgot)
		}
	})
}

// A process that starts does not know what the kernel remembers of buckets that
// others had meanwhile.
func TestDisownAtTheStartWhatWasNotOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &rememberingKernel{}
		d := disowning(t, k)
		now := part(9, hashmode.NewSet(0), hashmode.NewSet(1), hashmode.NewSet(2), hashmode.NewSet(3, 4))
		d.begin(now, map[string]hashmode.Set{"web": hashmode.NewSet(0, 3, 5)})
		time.Sleep(time.Second)
		if len(k.forgot) != 1 || k.forgot[0].String() != "4-7" {
			t.Fatalf("disowned %v; 0 to 2 are this node's, and 3 was taken before", k.forgot)
		}
	})
}

func TestWhatIsTakenWaitsUntilItIsDisowned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &rememberingKernel{takes: 40 * time.Millisecond}
		d := disowning(t, k)
		all := hashmode.Range(0, 7)
		none := hashmode.Set{}
		d.applied(part(1, none, none, all, none), part(2, none, none, none, none))
		synctest.Wait()
		began := time.Now()
		d.await(part(3, hashmode.NewSet(1), none, none, none), time.Second)
		if waited := time.Since(began); waited != 0 {
			t.Errorf("a bucket that nobody else has flows in waits for %v", waited)
		}
		d.await(part(3, none, none, none, hashmode.NewSet(1)), time.Second)
		if waited, want := time.Since(began), 60*time.Millisecond; waited != want {
			t.Errorf("a bucket to take waits for %v, want %v: the barrier's 20 ms and 40 ms", waited, want)
		}
	})
}

func TestDisownIsTriedAgainAndNotWaitedForWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &rememberingKernel{fails: 2}
		d := disowning(t, k)
		all := hashmode.Range(0, 7)
		none := hashmode.Set{}
		d.applied(part(1, none, none, all, none), part(2, none, none, none, none))
		began := time.Now()
		d.await(part(3, none, none, none, all), 75*time.Millisecond)
		if waited := time.Since(began); waited != 75*time.Millisecond || len(k.forgot) != 0 {
			t.Fatalf("waited for %v, disowned %v", waited, k.forgot)
		}
		time.Sleep(3 * disownRetry)
		if len(k.forgot) != 1 || k.forgot[0].Len() != 8 {
			t.Fatalf("disowned after two tries that failed: %v", k.forgot)
		}
	})
}
