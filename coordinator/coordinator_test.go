package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"earshot/hashmode"
	"earshot/nft"
	"earshot/raftstore"
)

// single is node a of a cluster whose other nodes the test plays: a leads.
type single struct {
	*Coordinator
	store  *modelStore
	kernel *modelKernel
	stop   func()
}

// run starts node a. The test runs in a synctest bubble.
func run(t *testing.T, h *history) *single { return runWith(t, h, &modelKernel{}, nil) }

// runWith starts node a on a kernel, with checks.
func runWith(t *testing.T, h *history, kernel *modelKernel, checks Health) *single {
	timing, err := NewTiming(300*time.Millisecond, 4*time.Millisecond, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	s := &single{kernel: kernel, store: &modelStore{
		history: h, lead: raftstore.Leadership{Term: testTerm, Addr: "a:7440", Self: true},
	}}
	s.Coordinator = New(Config{Node: "a", Timing: timing, Health: checks}, s.store, s.kernel, noPeers{}, slog.New(slog.DiscardHandler))
	s.stop = s.begin(t)
	return s
}

// begin runs node a until the function that it returns is called.
func (s *single) begin(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, newIdleListener(), func() {}) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// idleListener never has a connection.
type idleListener struct{ closed chan struct{} }

func newIdleListener() idleListener { return idleListener{make(chan struct{})} }

func (l idleListener) Accept() (net.Conn, error) {
	<-l.closed
	return nil, net.ErrClosed
}

func (l idleListener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l idleListener) Addr() net.Addr { return &net.UnixAddr{} }

// slot returns the committed slot of a bucket.
func (s *single) slot(b hashmode.Bucket) raftstore.Slot {
	return s.store.State().Services["web"].Map[b]
}

// own is what the kernel of node a opens.
func (s *single) own() hashmode.Set {
	s.kernel.mu.Lock()
	defer s.kernel.mu.Unlock()
	if len(s.kernel.rules.Services) == 0 {
		return hashmode.Set{}
	}
	v := s.kernel.rules.Services[0]
	return v.Own.Union(v.Inherit)
}

func TestLoneNodeTakesEverythingAndHoldsALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		h.join("a", 1)
		h.define("web", 16)
		s := run(t, h)
		defer s.stop()
		time.Sleep(time.Second)
		if got := s.own().String(); got != "0-15" {
			t.Fatalf("the kernel opens %q", got)
		}
		if left, _ := s.kernel.LeaseLeft(); left < 200*time.Millisecond || left > 270*time.Millisecond {
			t.Fatalf("lease of %v", left)
		}
		if len(s.kernel.told) == 0 {
			t.Fatal("the address was not announced")
		}
	})
}

func TestSilentNodesBucketsAreTakenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		h.join("a", 1)
		h.join("b", 1)
		h.define("web", 16)
		h.replan()
		s := run(t, h)
		defer s.stop()
		time.Sleep(startGrace*300*time.Millisecond + 325*time.Millisecond)
		if n := s.own().Len(); n != 8 {
			t.Fatalf("%d buckets while b may hold a lease of the leader before", n)
		}
		time.Sleep(50 * time.Millisecond)
		if n := s.own().Len(); n != 16 {
			t.Fatalf("%d buckets after b's time is over", n)
		}
		if !s.store.State().Nodes["b"].Failed {
			t.Fatal("b is not marked failed")
		}
	})
}

// TestDrainEndsWhenTwoLooksFindNoFlow is rule P16.
func TestDrainEndsWhenTwoLooksFindNoFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		h.join("a", 1)
		h.join("b", 1)
		h.define("web", 2)
		h.must(raftstore.Command{Pin: &raftstore.Pin{Service: "web", Buckets: "0", Node: "a"}})
		h.must(raftstore.Command{Pin: &raftstore.Pin{Service: "web", Buckets: "0-1", Node: "b"}})
		s := run(t, h)
		defer s.stop()
		s.setFlows(1)
		s.spareTheSilent()
		time.Sleep(2500 * time.Millisecond)
		if from := s.slot(0).From; len(from) != 1 {
			t.Fatalf("the drain ended with a flow left: %v", s.slot(0))
		}
		s.setFlows(0)
		time.Sleep(drainPoll + 50*time.Millisecond)
		if from := s.slot(0).From; len(from) != 1 {
			t.Fatal("the drain ended after a single look without a flow")
		}
		time.Sleep(drainPoll)
		if from := s.slot(0).From; len(from) != 0 {
			t.Fatalf("the drain goes on without a flow: %v", s.slot(0))
		}
	})
}

// handedOver is a cluster of a and b in which the one bucket goes from a to b.
func handedOver(t *testing.T) *history {
	h := newHistory(t)
	h.join("a", 1)
	h.join("b", 1)
	h.define("web", 1)
	for _, node := range []string{"a", "b"} {
		h.must(raftstore.Command{Pin: &raftstore.Pin{Service: "web", Buckets: "0", Node: node}})
	}
	return h
}

func TestDrainEndsAtItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := run(t, handedOver(t))
		defer s.stop()
		s.setFlows(3)
		s.spareTheSilent()
		time.Sleep(55 * time.Second)
		if from := s.slot(0).From; len(from) != 1 {
			t.Fatal("the drain ended before its limit of a minute")
		}
		time.Sleep(10 * time.Second)
		if from := s.slot(0).From; len(from) != 0 {
			t.Fatal("the drain goes on beyond its limit")
		}
	})
}

// spareTheSilent keeps the leader from judging anybody: the other nodes, which
// the test plays, ask for no lease.
func (s *single) spareTheSilent() {
	time.Sleep(100 * time.Millisecond) // it has begun its term
	s.leader.ledger.delay(time.Now().Add(time.Hour))
}

// setFlows has the kernel count n flows in bucket 0.
func (s *single) setFlows(n int) {
	s.kernel.mu.Lock()
	defer s.kernel.mu.Unlock()
	s.kernel.flows = map[string]map[hashmode.Bucket]nft.FlowCount{"web": {0: {Active: n}}}
}

// heldByKernel is node a, stopped, with a newer map in its kernel than its log
// has, and a lease that runs for a second.
func heldByKernel(t *testing.T) (*single, uint64) {
	h := newHistory(t)
	h.join("a", 1)
	h.define("web", 4)
	h.replan()
	s := run(t, h)
	s.stop()
	later := h.state.Index + 5
	s.kernel.held, s.kernel.until = later, time.Now().Add(time.Second)
	s.kernel.rules = nft.Ruleset{Index: later}
	return s, later
}

// TestReplayWritesNothingBeforeWhatTheKernelHolds is rule P11: a restarted
// agent does not put an older map back under a lease that still runs.
func TestReplayWritesNothingBeforeWhatTheKernelHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, later := heldByKernel(t)
		s.reconciler.held.Store(later)
		if err := s.reconciler.reconcile(); !errors.Is(err, errBehind) {
			t.Fatalf("reconciled with a newer map in the kernel: %v", err)
		}
		if s.kernel.held != later {
			t.Fatalf("the kernel went back from map %d to %d", later, s.kernel.held)
		}
	})
}

func TestMapOfAClusterThatIsNoMoreIsForgottenOnceItsLeaseIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, later := heldByKernel(t)
		s.reconciler.held.Store(later)
		time.Sleep(1100 * time.Millisecond)
		if err := s.reconciler.reconcile(); err != nil {
			t.Fatal(err)
		}
		if want := s.store.State().Index; s.kernel.held != want {
			t.Fatalf("the kernel holds map %d, want %d", s.kernel.held, want)
		}
	})
}

func TestNodeWithoutCarrierGivesUpItsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		h.join("a", 1)
		h.join("b", 1)
		h.define("web", 4)
		s := run(t, h)
		defer s.stop()
		s.spareTheSilent()
		s.news.learn(released("b", 1000)) // b follows, silently
		time.Sleep(time.Second)
		if n := s.own().Len(); n != 2 {
			t.Fatalf("%d buckets to begin with", n)
		}
		s.kernel.mu.Lock()
		s.kernel.deaf = true
		s.kernel.mu.Unlock()
		s.reconciler.drift() // the kernel tells of the link
		time.Sleep(200 * time.Millisecond)
		if n := s.own().Len(); n != 0 {
			t.Fatalf("%d buckets without carrier", n)
		}
	})
}
