package coordinator

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// weighEvery is the time between two looks at a weight that may change.
const weighEvery = time.Second

// scale keeps an eye on this node's weight where that is not a fixed number.
// It has a goroutine of its own: a file may be on a disk that hangs, and no
// renewal may wait for that.
type scale struct {
	read atomic.Pointer[func() (int, error)] // nil: the weight is fixed
	tell func(int)                           // a new weight
	wake chan struct{}
	log  *slog.Logger

	weight  atomic.Pointer[int] // nil: not known yet
	problem atomic.Pointer[string]
}

// follow has the weight read in another way from now on. A nil changes nothing.
func (s *scale) follow(read func() (int, error)) {
	if read == nil {
		return
	}
	s.read.Store(&read)
	signal(s.wake)
}

// run looks until ctx ends.
func (s *scale) run(ctx context.Context) error {
	ticker := time.NewTicker(weighEvery)
	defer ticker.Stop()
	for {
		s.look()
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-ticker.C:
		}
	}
}

// look reads the weight once. What cannot be read keeps the last value and
// is a problem that the status shows.
func (s *scale) look() {
	read := s.read.Load()
	if read == nil {
		return
	}
	weight, err := (*read)()
	if err != nil {
		text := err.Error()
		if before := s.problem.Swap(&text); before == nil || *before != text {
			s.log.Warn("weight cannot be read: it stays as it was", "error", err)
		}
		return
	}
	s.problem.Store(nil)
	if before := s.weight.Load(); before == nil || *before != weight {
		s.weight.Store(&weight)
		s.log.Info("weight", "weight", weight)
		s.tell(weight)
	}
}

// problems is what is wrong with the weight, in words.
func (s *scale) problems() []string {
	if p := s.problem.Load(); p != nil {
		return []string{"weight: " + *p}
	}
	return nil
}
