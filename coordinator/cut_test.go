package coordinator

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"earshot/hashmode"
)

// Buckets that are released one after another have their connections reset
// each as soon as they are; the end of the drain waits for the last.
func TestEachReleaseIsReset(t *testing.T) {
	h := newHistory(t)
	h.join("a", 1)
	h.define("web", 4)
	h.replan()
	kernel := &modelKernel{}
	d := &drainer{
		node: "a", kernel: kernel, log: slog.New(slog.DiscardHandler),
		wake: make(chan struct{}, 1), patience: time.Hour,
	}
	begin := time.Now()
	for _, step := range []struct {
		buckets hashmode.Set
		after   time.Duration
		over    bool
		cut     []string
	}{
		{hashmode.Range(0, 1), 0, false, []string{"web 0-1"}},
		{hashmode.Range(0, 1), 30 * time.Minute, false, []string{"web 0-1"}},
		{hashmode.Range(0, 3), 50 * time.Minute, false, []string{"web 0-1", "web 0-3"}},
		{hashmode.Range(0, 3), 80 * time.Minute, false, []string{"web 0-1", "web 0-3"}},
		{hashmode.Range(0, 3), 110 * time.Minute, true, []string{"web 0-1", "web 0-3"}},
	} {
		over := d.resetAll(h.state, "web", step.buckets, begin.Add(step.after))
		if over != step.over || !slices.Equal(kernel.cut, step.cut) {
			t.Errorf("after %v: over is %v, reset %q; want %v, %q", step.after, over, kernel.cut, step.over, step.cut)
		}
	}
}
