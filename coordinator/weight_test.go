package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"earshot/raftstore"
)

// gauge is a weight that the test changes.
type gauge struct {
	mu     sync.Mutex
	weight int
	err    error
}

func (g *gauge) read() (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.weight, g.err
}

func (g *gauge) set(weight int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.weight, g.err = weight, err
}

// A weight that changes is told with the next renewal, and committed. What
// cannot be read keeps the last one and is a problem in the status.
func TestWeightIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		h.join("a", 1)
		h.define("web", 16)
		timing, err := NewTiming(300*time.Millisecond, 4*time.Millisecond, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		store := &modelStore{history: h, lead: raftstore.Leadership{Term: testTerm, Addr: "a:7440", Self: true}}
		g := &gauge{weight: 4}
		c := New(Config{Node: "a", Timing: timing, Weight: g.read}, store, &modelKernel{}, noPeers{}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx, newIdleListener(), func() {}) }()
		committed := func(want int, problem string) {
			t.Helper()
			time.Sleep(weighEvery + timing.Lease)
			s := c.status(ctx)
			if got := s.Nodes[0].Weight; got != want {
				t.Errorf("weight %d, not %d", got, want)
			}
			told := slices.ContainsFunc(s.Nodes[0].Problems, func(p string) bool { return strings.Contains(p, problem) })
			if problem != "" && !told || problem == "" && strings.Contains(strings.Join(s.Nodes[0].Problems, " "), "weight") {
				t.Errorf("problems %q, want %q", s.Nodes[0].Problems, problem)
			}
		}
		committed(4, "")
		g.set(7, nil)
		committed(7, "")
		g.set(9, errors.New("/run/weight: no such file"))
		committed(7, "weight: /run/weight: no such file")
		g.set(0, nil)
		committed(0, "")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
