package health

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fake is a check whose answers the test gives.
func fake(ask probe) *Check {
	return &Check{Name: "fake", Interval: time.Second, Timeout: time.Second, Rules: Rules{Fall: 2, Rise: 2}, probe: ask}
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// watched runs a monitor inside a synctest bubble.
func watched(services map[string][]*Check) (m *Monitor, changes *atomic.Int64, stop func()) {
	m = NewMonitor(services, quiet())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	changes = new(atomic.Int64)
	go func() {
		_ = m.Run(ctx, func() { changes.Add(1) })
		close(done)
	}()
	return m, changes, func() {
		cancel()
		<-done
	}
}

// after lets the bubble's clock run.
func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestChecksAreReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := func(context.Context) error { return nil }
		bad := func(context.Context) error { return errors.New("it is dead") }
		asked := new(atomic.Int64)
		m, changes, stop := watched(map[string][]*Check{
			"web":  {fake(func(context.Context) error { asked.Add(1); return nil })},
			"mail": {fake(good)},
		})
		defer stop()
		after(5 * time.Second)
		before, old := changes.Load(), asked.Load()
		m.Replace("web", []*Check{fake(bad)})
		if got := m.Verdicts(); got["web"].State != Unknown || got["mail"].State != Well || changes.Load() == before {
			t.Errorf("just replaced: %v", got)
		}
		after(5 * time.Second)
		if got := m.Verdicts(); got["web"].State != Ill || got["mail"].State != Well {
			t.Errorf("replaced: %v", got)
		}
		if asked.Load() != old {
			t.Error("the old check is asked still")
		}
		m.Replace("web", nil)
		m.Replace("dns", []*Check{fake(good)})
		after(5 * time.Second)
		if got := m.Verdicts(); len(got) != 2 || got["dns"].State != Well {
			t.Errorf("without checks, and with new ones: %v", got)
		}
	})
}

func TestMonitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answers atomic.Pointer[error]
		say := func(err error) { answers.Store(&err) }
		say(nil)
		m, changes, stop := watched(map[string][]*Check{
			"web":  {fake(func(context.Context) error { return *answers.Load() }), fake(func(context.Context) error { return nil })},
			"bare": nil,
		})
		defer stop()
		synctest.Wait()
		expect := func(want State, times int64) {
			t.Helper()
			got := m.Verdicts()
			if _, there := got["bare"]; there || got["web"].State != want || changes.Load() != times {
				t.Errorf("%v after %d changes, not %v after %d", got, changes.Load(), want, times)
			}
		}
		expect(Well, 1)
		say(errors.New("refused"))
		after(time.Second + time.Millisecond)
		expect(Well, 1)
		after(time.Second)
		expect(Ill, 2)
		if why := m.Verdicts()["web"].Reason; why != "refused" {
			t.Errorf("the reason is %q", why)
		}
		say(errors.New("refused in other words"))
		after(5 * time.Second)
		expect(Ill, 2)
		say(nil)
		after(2 * time.Second)
		expect(Well, 3)
	})
}

// Attempts begin at even intervals, however long each takes, and never two at
// once.
func TestAttemptsAreEvenAndNeverOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		takes := []time.Duration{300 * time.Millisecond, 900 * time.Millisecond, 2500 * time.Millisecond, 0, 0}
		var starts []time.Duration
		running := 0
		check := fake(func(ctx context.Context) error {
			if running++; running > 1 {
				t.Error("two at once")
			}
			defer func() { running-- }()
			i := len(starts)
			starts = append(starts, time.Since(began))
			if i < len(takes) {
				<-time.After(takes[i])
			}
			return nil
		})
		check.Timeout = 10 * time.Second
		_, _, stop := watched(map[string][]*Check{"web": {check}})
		defer stop()
		after(7*time.Second + 100*time.Millisecond)
		// The third, begun at 2 s, ends at 4.5 s: the tick of 3 s is made up for
		// then, and the next ones are where they were.
		const s, half = time.Second, time.Second / 2
		if want := []time.Duration{0, s, 2 * s, 4*s + half, 5 * s, 6 * s, 7 * s}; !slices.Equal(starts, want) {
			t.Errorf("attempts at %v, not %v", starts, want)
		}
	})
}

// A probe that cannot be ended holds up no verdict, and is not begun again.
func TestAProbeThatNeverEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var begun atomic.Int64
		m, _, stop := watched(map[string][]*Check{"web": {fake(func(context.Context) error {
			begun.Add(1)
			<-release
			return nil
		})}})
		defer stop()
		after(10 * time.Second)
		if got := m.Verdicts()["web"]; got.State != Ill || begun.Load() != 1 {
			t.Errorf("%+v, begun %d times", got, begun.Load())
		}
		close(release)
		after(5 * time.Second)
		if got := m.Verdicts()["web"]; got.State != Well {
			t.Errorf("%+v once it ends", got)
		}
	})
}

// The end of the agent is nobody's illness.
func TestStoppingIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		check := fake(func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		check.Rules.Fall, check.Timeout = 1, time.Minute
		m, changes, stop := watched(map[string][]*Check{"web": {check}})
		after(time.Second)
		stop()
		if got := m.Verdicts()["web"]; got.State != Unknown || changes.Load() != 0 {
			t.Errorf("%+v after %d changes", got, changes.Load())
		}
	})
}
