package coordinator

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// On a node with very many flows a count takes long. Its drains and whoever
// asks for the status leave most of a processor to its servers.
func TestCountingFlowsLeavesTheProcessorAlone(t *testing.T) {
	const take, span = 500 * time.Millisecond, time.Minute
	const most = int(span/(10*take)) + 2
	for name, tc := range map[string]struct {
		history func(*testing.T) *history
		ask     func(*testing.T, *single)
	}{
		"a drain":       {handedOver, func(*testing.T, *single) {}},
		"those who ask": {func(t *testing.T) *history { return newHistory(t) }, func(t *testing.T, s *single) { askForFlows(t, s, span) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := runWith(t, tc.history(t), &modelKernel{flowsTake: take}, nil)
				defer s.stop()
				s.setFlows(3)
				s.spareTheSilent()
				began := time.Now()
				tc.ask(t, s)
				time.Sleep(span - time.Since(began))
				if counts := s.counts(); counts < 2 || counts > most {
					t.Errorf("flows were counted %d times in %v, want 2 to %d", counts, span, most)
				}
			})
		})
	}
}

// askForFlows has three ask all the time.
func askForFlows(t *testing.T, s *single, span time.Duration) {
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
}

// counts is how often the kernel has counted flows.
func (s *single) counts() int {
	s.kernel.mu.Lock()
	defer s.kernel.mu.Unlock()
	return s.kernel.counts
}

// A process that is stopped in a count must not rest for nineteen times as long.
func TestADrainEndsSoonAfterAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := runWith(t, handedOver(t), &modelKernel{flowsTake: 5 * time.Minute}, nil)
		defer s.stop()
		s.spareTheSilent()
		time.Sleep(10 * time.Minute)
		if counts := s.counts(); counts != 1 {
			t.Fatalf("%d counts ended", counts)
		}
		time.Sleep(2 * longestRest)
		if from := s.slot(0).From; len(from) != 0 {
			t.Fatalf("the drain goes on: %v", s.slot(0))
		}
	})
}
