package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"earshot/raftstore"
)

// doubtful is a store whose deaths are applied, but of whose first few
// nobody learns that.
type doubtful struct {
	*modelStore
	lost int // deaths that are not even applied
	told int // deaths before the outcome of one is told
}

func (d *doubtful) Propose(ctx context.Context, c raftstore.Command) (uint64, error) {
	if c.Death == nil {
		return d.modelStore.Propose(ctx, c)
	}
	d.lost--
	d.told--
	if d.lost >= 0 {
		return 0, raftstore.ErrUnknown
	}
	index, err := d.modelStore.Propose(ctx, c)
	if d.told >= 0 {
		return 0, raftstore.ErrUnknown
	}
	return index, err
}

// heardAgain starts node a as the leader, has it judge b, which is silent,
// and returns what b is told when it asks for a lease then.
func heardAgain(t *testing.T, lost, told int) (err error) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		h.join("a", 1)
		h.join("b", 1)
		h.define("web", 4)
		h.replan()
		timing, terr := NewTiming(300*time.Millisecond, 4*time.Millisecond, 10*time.Second)
		if terr != nil {
			t.Fatal(terr)
		}
		store := &doubtful{lost: lost, told: told, modelStore: &modelStore{
			history: h, lead: raftstore.Leadership{Term: testTerm, Addr: "a:7440", Self: true},
		}}
		c := New(Config{Node: "a", Timing: timing}, store, &modelKernel{}, noPeers{}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx, newIdleListener(), func() {}) }()
		time.Sleep((startGrace + 3) * timing.Lease)
		st := store.State()
		if !st.Nodes["b"].Failed {
			t.Error("b is not dead")
		}
		_, err = c.leader.grantTo(ctx, renewal{Node: "b", ServerID: "id-b", Process: 1, level: level{Held: st.Index, Released: st.Index}})
		cancel()
		if ended := <-done; ended != nil {
			t.Errorf("Run ends with %v", ended)
		}
	})
	return err
}

// TestAJudgementOfUnknownOutcomeEnds: the leader's disk hung while it committed
// a death. It was carried out all the same, and the node was refused for as
// long as that leader led (P4).
func TestAJudgementOfUnknownOutcomeEnds(t *testing.T) {
	if err := heardAgain(t, 0, 1); err != nil {
		t.Fatalf("a node whose death was applied, and that is heard again: %v", err)
	}
}

// TestADeathThatWasLostIsProposedAgain: else the node would be neither dead nor
// granted anything.
func TestADeathThatWasLostIsProposedAgain(t *testing.T) {
	if err := heardAgain(t, 2, 0); err != nil {
		t.Fatalf("a node whose death was applied at last, and that is heard again: %v", err)
	}
}

// TestANodeStaysJudgedWhileItsDeathMayComeThrough is rule P4.
func TestANodeStaysJudgedWhileItsDeathMayComeThrough(t *testing.T) {
	h := newHistory(t)
	h.join("a", 1)
	h.join("b", 1)
	timing, err := NewTiming(300*time.Millisecond, 4*time.Millisecond, 0)
	if err != nil {
		t.Fatal(err)
	}
	store := &doubtful{lost: 1000, modelStore: &modelStore{history: h, lead: raftstore.Leadership{Term: testTerm, Self: true}}}
	l := &leader{store: store, timing: timing, log: slog.New(slog.DiscardHandler), ledger: &ledger{timing: timing}, term: testTerm, unsure: map[string]uint64{}}
	start := time.Now()
	l.ledger.begin(testTerm, start, 0)
	l.ledger.setReady(testTerm)
	for range 3 {
		start = start.Add(timing.Lease * 2)
		l.judge(t.Context(), start)
		r := renewal{Node: "b", ServerID: "id-b", Process: 1}
		if _, err := l.ledger.grant(start, testTerm, store.State, r, 0, store.LastCommand); !errors.Is(err, ErrJudged) {
			t.Fatalf("granted while its death may come through: %v", err)
		}
	}
}

// TestTheKernelHoldsWhatIsSaidOfIt: entries that change nothing for this node
// raise the index in its kernel, too. Else a later process would replay what
// lies between, under a lease that still runs (P11).
func TestTheKernelHoldsWhatIsSaidOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		h.join("a", 1)
		h.define("web", 4)
		h.replan()
		s := run(t, h)
		defer s.stop()
		time.Sleep(time.Second)
		if _, err := s.store.Propose(t.Context(), raftstore.Command{Tick: &raftstore.Tick{}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		held, _, err := s.kernel.Held()
		if said := s.renewal().Held; err != nil || held != said || held != s.store.State().Index {
			t.Fatalf("the kernel holds map %d, the node says %d, the newest is %d", held, said, s.store.State().Index)
		}
	})
}

// TestAStoppingNodeAsksTheNextLeader: the leader was lost while it committed
// that the node rests. The next one waits for the node, so the node must have
// the lease.
func TestAStoppingNodeAsksTheNextLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTenure(t)
		asked := 0
		u.answer = func(renewal) (grant, error) {
			if asked++; asked == 1 {
				return grant{}, raftstore.ErrUnknown
			}
			return grant{Bound: 7}, nil
		}
		if err := u.rest(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, want := u.kernelLeft(), 9800*time.Millisecond; got != want {
			t.Fatalf("a restart lease of %v, want %v", got, want)
		}
	})
}

// TestNoLeaseOutlastsTheWaitForItOnASlowClock: clocks differ by up to a
// hundredth, which of a restart lease is more than an ordinary margin (P1).
func TestNoLeaseOutlastsTheWaitForItOnASlowClock(t *testing.T) {
	for _, l := range []time.Duration{120 * time.Millisecond, 300 * time.Millisecond, 10 * time.Second} {
		timing, err := NewTiming(l, 4*time.Millisecond, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for _, lease := range []time.Duration{timing.Lease, timing.Rest} {
			wait := timing.patience(lease)
			if lasts := timing.tenancy(lease) * 101 / 100; lasts > wait {
				t.Errorf("L = %v: a lease of %v lasts %v on a slow clock, and is waited for for %v", l, lease, lasts, wait)
			}
		}
	}
}
