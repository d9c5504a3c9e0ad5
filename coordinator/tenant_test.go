package coordinator

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// tenure is a tenant with a model kernel and a leader that the test plays.
type tenure struct {
	*tenant
	kernel *modelKernel
	held   uint64
	answer func(renewal) (grant, error)
	gained int
}

func newTenure(t *testing.T) *tenure {
	timing, err := NewTiming(300*time.Millisecond, 4*time.Millisecond, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	u := &tenure{kernel: &modelKernel{ok: true}, held: 7}
	u.tenant = &tenant{
		timing: timing, kernel: u.kernel, log: slog.New(slog.DiscardHandler),
		held:    func() uint64 { return u.held },
		ask:     func(_ context.Context, r renewal) (grant, error) { return u.answer(r) },
		request: func() renewal { return renewal{Node: "a"} },
		learn:   func(levels) {},
		gained:  func() { u.gained++ },
		wake:    make(chan struct{}, 1),
		anew:    make(chan struct{}, 1),
	}
	return u
}

// left is what the kernel would say.
func (u *tenure) kernelLeft() time.Duration {
	left, _ := u.kernel.LeaseLeft()
	return left
}

func TestLeaseCountsFromTheSendingP1(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTenure(t)
		u.answer = func(renewal) (grant, error) {
			time.Sleep(100 * time.Millisecond) // under way in both directions
			return grant{Bound: 7}, nil
		}
		u.renew(t.Context())
		if got, want := u.kernelLeft(), 170*time.Millisecond; got != want {
			t.Fatalf("%v of the lease are left 100 ms after the request, want %v", got, want)
		}
	})
}

// An answer is waited for as long as its lease would last until the next one may
// come. By shorter ones the node would answer now and then, for ever.
func TestALateAnswerLastsUntilTheNextOrIsNone(t *testing.T) {
	for late, want := range map[int]time.Duration{70: 60 * time.Millisecond, 76: 0} {
		synctest.Test(t, func(t *testing.T) {
			u := newTenure(t)
			after := u.timing.Lease * time.Duration(late) / 100
			u.tenant.ask = func(ctx context.Context, _ renewal) (grant, error) {
				select {
				case <-ctx.Done():
					return grant{}, ctx.Err()
				case <-time.After(after):
					return grant{Bound: 7}, nil
				}
			}
			u.renew(t.Context())
			if got := u.kernelLeft(); got != want {
				t.Errorf("after %v: %v of the lease are left, want %v", after, got, want)
			}
		})
	}
}

func TestLeaseWaitsForTheMapThatTheLeaderMeantP3(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTenure(t)
		u.answer = func(renewal) (grant, error) { return grant{Bound: 9}, nil }
		u.renew(t.Context())
		u.mapHeld(8)
		if got := u.kernelLeft(); got != 0 {
			t.Fatalf("a lease of %v under a map older than the leader meant", got)
		}
		time.Sleep(50 * time.Millisecond)
		u.mapHeld(9)
		if got, want := u.kernelLeft(), 220*time.Millisecond; got != want {
			t.Fatalf("lease of %v when the map has come, want %v", got, want)
		}
		if u.gained != 1 {
			t.Fatalf("told %d times that a lease was gained", u.gained)
		}
	})
}

func TestNodeSaysWhetherItHasALeaseP5(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTenure(t)
		said := []bool{}
		u.answer = func(r renewal) (grant, error) {
			said = append(said, r.Silent)
			return grant{Bound: 7}, nil
		}
		u.renew(t.Context())
		select {
		case <-u.wake:
		default:
			t.Error("the leader is not told at once")
		}
		u.renew(t.Context())
		time.Sleep(time.Second)
		u.renew(t.Context())
		if want := []bool{true, false, true}; !slices.Equal(said, want) {
			t.Errorf("silent: %v, want %v", said, want)
		}
	})
}

func TestLateAnswerShortensNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTenure(t)
		u.answer = func(renewal) (grant, error) { return grant{Bound: 7}, nil }
		u.renew(t.Context())
		before := u.until
		u.take(lease{until: before.Add(-50 * time.Millisecond), bound: 7})
		if !u.until.Equal(before) {
			t.Fatalf("a lease until %v replaced one until %v", u.until, before)
		}
	})
}

func TestRestingNodeTakesNoOrdinaryLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTenure(t)
		u.answer = func(r renewal) (grant, error) {
			if r.Rest != 10*time.Second {
				t.Errorf("asks to rest for %v", r.Rest)
			}
			return grant{Bound: 7}, nil
		}
		if err := u.rest(t.Context()); err != nil {
			t.Fatal(err)
		}
		u.take(lease{until: time.Now().Add(200 * time.Millisecond), bound: 7})
		if got := u.kernelLeft(); got < 9*time.Second {
			t.Fatalf("the kernel's lease after all: %v", got)
		}
		time.Sleep(time.Second) // the agent lingers
		u.answer = func(r renewal) (grant, error) {
			if r.Silent {
				t.Error("says that it has no lease")
			}
			return grant{Bound: 7}, nil
		}
		u.renew(t.Context())
	})
}

func TestNewProcessSaysThatARestartLeaseIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTenure(t)
		u.kernel.until = time.Now().Add(5 * time.Second)
		var said []bool
		u.answer = func(r renewal) (grant, error) {
			said = append(said, r.Resting)
			return grant{Bound: 7}, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- u.run(ctx) }()
		time.Sleep(125 * time.Millisecond)
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if len(said) < 2 || !said[0] || said[1] {
			t.Fatalf("said of a restart lease in turn: %v; true once, then false, is right", said)
		}
		if got := u.kernelLeft(); got > 300*time.Millisecond {
			t.Fatalf("the restart lease is not replaced: %v", got)
		}
	})
}

// A leader that does not answer is not asked more and more, whatever there is to
// tell; one that is new is asked at once.
func TestASlowLeaderIsAskedNoMoreThanTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTenure(t)
		underWay, most := 0, 0
		var mu sync.Mutex
		u.ask = func(ctx context.Context, _ renewal) (grant, error) {
			mu.Lock()
			underWay++
			most = max(most, underWay)
			mu.Unlock()
			<-ctx.Done()
			mu.Lock()
			underWay--
			mu.Unlock()
			return grant{}, ctx.Err()
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- u.run(ctx) }()
		for range 600 {
			u.renewNow()
			time.Sleep(time.Millisecond)
		}
		if most != renewalsAtOnce+1 {
			t.Errorf("%d requests under way, want %d and one with news", most, renewalsAtOnce)
		}
		most = 0
		u.greet()
		synctest.Wait()
		if most != renewalsAtOnce+2 {
			t.Errorf("%d requests under way when there is a new leader", most)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
