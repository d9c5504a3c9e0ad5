package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"earshot/hashmode"
	"earshot/raftstore"
)

// leads has the node lead, and know its log.
func (r *reader) leads() {
	r.leader.ledger.begin(testTerm, time.Now(), 0)
	r.leader.ledger.setReady(testTerm)
}

// A service that comes to an address with a restart of the agents takes the
// packets of ports that nobody named from the one that answered them: with a
// handoff, as by `earshot apply`.
func TestANewServiceBesideAnotherIsHandedItsPackets(t *testing.T) {
	r := newReader(t)
	r.leads()
	r.pin("0-3", "a")
	far := testDefinition("elsewhere", 2)
	far.Address, far.MAC = netip.MustParsePrefix("192.0.2.77/24"), "01:00:5e:00:02:4d"
	for _, d := range []raftstore.Definition{testDefinition("mail", 2), far} {
		if err := r.propose(t.Context(), raftstore.Command{Define: &raftstore.Define{Definition: d, Seed: 7}}); err != nil {
			t.Fatal(err)
		}
	}
	if from := r.state.Services["mail"].Map[1].From; !slices.Equal(from, []string{"a"}) {
		t.Errorf("mail's bucket 1 comes from %q, want a, which has answered there as web", from)
	}
	if from := r.state.Services["elsewhere"].Map[1].From; from != nil {
		t.Errorf("a bucket of another address comes from %q", from)
	}
}

// Where a service was removed, and one comes to its address again, every node is
// to have taken in the removal: one that has not answers still.
func TestAServiceComesBackWhenAllKnowThatItWent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReader(t)
		r.leads()
		r.join("b", 1)
		web := r.state.Services["web"].Definition
		remove := raftstore.Redefine{Changes: []raftstore.Redefinition{{Service: "web", Was: &web}}}
		add := raftstore.Redefine{Changes: []raftstore.Redefinition{{Service: "web", Definition: &web, Seed: 9}}}
		if err := r.propose(t.Context(), raftstore.Command{Redefine: &remove}); err != nil {
			t.Fatal(err)
		}
		removed := r.state.Index
		r.news.learn(levels{"a": {Held: removed}, "b": {Held: removed - 1}})
		if err := r.propose(t.Context(), raftstore.Command{Redefine: &add}); !errors.Is(err, errRemembers) {
			t.Fatalf("error %v while b does not know that it went", err)
		}
		time.AfterFunc(r.cfg.Timing.Lease, func() { r.news.learn(levels{"b": {Held: removed}}) })
		if err := r.propose(t.Context(), raftstore.Command{Redefine: &add}); err != nil {
			t.Errorf("when b knows: %v", err)
		}
		r.join("c", 1) // nothing is known of it, and nothing comes back
		if err := r.propose(t.Context(), raftstore.Command{Define: &raftstore.Define{Definition: testDefinition("mail", 2), Seed: 7}}); err != nil {
			t.Error(err)
		}
	})
}

// hangingPeers is a leader that takes requests and does not answer the first,
// and of the second says that its outcome is not known.
type hangingPeers struct{ calls atomic.Int64 }

func (p *hangingPeers) Call(ctx context.Context, _, path string, _, _ any) error {
	if path != pathPropose {
		return errors.New("not asked for")
	}
	switch p.calls.Add(1) {
	case 1:
		<-ctx.Done()
		return ctx.Err()
	case 2:
		return &RemoteError{Message: "leadership lost", Unknown: true}
	}
	return nil
}

// A command goes on when its leader hangs, or is deposed in the middle of it.
func TestACommandOutlivesALeaderThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReader(t)
		peers := &hangingPeers{}
		r.Coordinator = New(r.cfg, &modelStore{history: r.history, lead: raftstore.Leadership{Addr: "b:7440"}}, &modelKernel{}, peers, slog.New(slog.DiscardHandler))
		if _, err := r.wish(t.Context(), WishRequest{Node: "a"}); err != nil || peers.calls.Load() != 3 {
			t.Errorf("error %v after %d tries", err, peers.calls.Load())
		}
	})
}

// What the cluster does not take is tried again, ever more rarely, and the reason
// told once, when it has come twice.
func TestTriesOfAService(t *testing.T) {
	tries, now := tries{}, time.Now()
	var waits []time.Duration
	var told []int
	for i := range 9 {
		for begin := now; !tries.due("web", now); {
			if now = now.Add(time.Second); tries.due("web", now) {
				waits = append(waits, now.Sub(begin))
			}
		}
		why := errors.New("a clash")
		if i == 0 {
			why = errors.New("somebody was first")
		}
		if tries.failed("web", why, now) {
			told = append(told, i)
		}
	}
	s := time.Second
	if want := []time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 32 * s, 60 * s, 60 * s}; !slices.Equal(waits, want) {
		t.Errorf("waits %v, want %v", waits, want)
	}
	if !slices.Equal(told, []int{2}) || !tries.due("mail", now) {
		t.Errorf("told after tries %v", told)
	}
}

// What a kernel let through may be another service's now: the release of that is
// told behind a barrier (P24).
func TestAServiceThatComesBesideAnotherNeedsABarrier(t *testing.T) {
	h := newHistory(t)
	h.join("a", 1)
	h.define("web", 4)
	h.pin("0-3", "a")
	before := opened{held: h.state.Index, buckets: map[string]hashmode.Set{"web": hashmode.NewSet(0, 1, 2, 3)}}
	h.must(besideOthers(h.state, raftstore.Command{Define: &raftstore.Define{Definition: testDefinition("mail", 2), Seed: 7}}))
	after := before
	after.held = h.state.Index
	if !before.outdated(h.state) || after.outdated(h.state) || (opened{}).outdated(h.state) {
		t.Errorf("outdated: %v before, %v after, %v with an empty kernel", before.outdated(h.state), after.outdated(h.state), (opened{}).outdated(h.state))
	}
}
