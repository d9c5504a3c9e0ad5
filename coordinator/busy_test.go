package coordinator

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"earshot/raftstore"
)

// On a node with very many flows a count takes long. Its drains and whoever
// asks for the status leave most of a processor to its servers.
func TestCountingFlowsLeavesTheProcessorAlone(t *testing.T) {
	const take, span = 500 * time.Millisecond, time.Minute
	const most = int(span/(10*take)) + 2
	for name, ask := range map[string]func(*testing.T, *single){
		"a drain": func(*testing.T, *single) {},
		"those who ask": func(t *testing.T, s *single) {
			var asking sync.WaitGroup
			for range 3 {
				asking.Go(func() {
					for until := time.Now().Add(span); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
						if _, err := s.flows(); err != nil {
							t.Error(err)
						}
					}
				})
			}
			asking.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHistory(t)
				h.join("a", 1)
				h.join("b", 1)
				h.define("web", 1)
				if name == "a drain" {
					h.must(raftstore.Command{Pin: &raftstore.Pin{Service: "web", Buckets: "0", Node: "a"}})
					h.must(raftstore.Command{Pin: &raftstore.Pin{Service: "web", Buckets: "0", Node: "b"}})
				}
				s := runWith(t, h, &modelKernel{flowsTake: take}, nil)
				defer s.stop()
				s.setFlows(3)
				s.spareTheSilent()
				began := time.Now()
				ask(t, s)
				time.Sleep(span - time.Since(began))
				s.kernel.mu.Lock()
				counts := s.kernel.counts
				s.kernel.mu.Unlock()
				if counts < 2 || counts > most {
					t.Errorf("flows were counted %d times in %v, want 2 to %d", counts, span, most)
				}
			})
		})
	}
}

// A process that is stopped in a count must not rest for nine times as long.
func TestADrainEndsSoonAfterAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		h.join("a", 1)
		h.join("b", 1)
		h.define("web", 1)
		h.must(raftstore.Command{Pin: &raftstore.Pin{Service: "web", Buckets: "0", Node: "a"}})
		h.must(raftstore.Command{Pin: &raftstore.Pin{Service: "web", Buckets: "0", Node: "b"}})
		s := runWith(t, h, &modelKernel{flowsTake: 5 * time.Minute}, nil)
		defer s.stop()
		s.spareTheSilent()
		time.Sleep(10 * time.Minute)
		s.kernel.mu.Lock()
		counts := s.kernel.counts
		s.kernel.mu.Unlock()
		if counts != 1 {
			t.Fatalf("%d counts ended", counts)
		}
		time.Sleep(2 * longestRest)
		if from := s.slot(0).From; len(from) != 0 {
			t.Fatalf("the drain goes on: %v", s.slot(0))
		}
	})
}
