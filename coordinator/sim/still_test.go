package sim

import (
	"fmt"
	"runtime/debug"
	"testing"
	"time"
)

// watch calls alarm when the time in a bubble has stood still for so long of
// real time: somebody in it waits for a mutex whose holder waits for time to
// pass, for something outside of the bubble, or runs in circles. synctest sees
// none of these. running is nil until there is something to watch.
func watch(limit time.Duration, running func() *world, alarm func(*world, time.Duration)) (stop func()) {
	stopped := make(chan struct{})
	go func() {
		look := time.NewTicker(limit / 16)
		defer look.Stop()
		last, since := int64(0), time.Now()
		for {
			select {
			case <-stopped:
				return
			case <-look.C:
				w := running()
				if w == nil {
					continue
				}
				// The tick may be from long ago, where others have the processor.
				if clock := w.clock.Load(); clock != last {
					last, since = clock, time.Now()
				} else if time.Since(since) > limit {
					alarm(w, limit)
					return
				}
			}
		}
	}()
	return func() { close(stopped) }
}

// standstill ends the program: nothing else ends a bubble that hangs. All
// goroutines are shown.
func standstill(w *world, limit time.Duration) {
	simulated := time.Unix(0, w.clock.Load()).Sub(w.history.began)
	debug.SetTraceback("all")
	panic(fmt.Sprintf("time has stood still for %v at %v of seed %d, in the bubble of the goroutines below that wait for a mutex, for something outside, or run\n%s",
		limit, simulated, w.seed, w.again(simulated)))
}

// TestStandstill: an alarm is given when time stands still, and not before.
func TestStandstill(t *testing.T) {
	w := &world{}
	w.clock.Store(1)
	moved, alarm := time.Now(), make(chan time.Time, 1)
	looks := 0
	stop := watch(64*time.Millisecond, func() *world {
		if looks++; looks < 40 {
			w.clock.Add(1)
			moved = time.Now()
		}
		return w
	}, func(*world, time.Duration) { alarm <- time.Now() })
	defer stop()
	if at := <-alarm; looks < 40 || at.Sub(moved) < 64*time.Millisecond {
		t.Errorf("alarm after %d looks, %v after the last that saw time pass", looks, at.Sub(moved))
	}
}
