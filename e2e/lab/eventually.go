package lab

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// T is the part of testing.TB that the lab needs.
type T interface {
	Helper()
	Name() string
	Cleanup(func())
	Failed() bool
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
	Logf(format string, args ...any)
}

// pollInterval is the time between two looks at a condition that costs
// nothing. One that costs something, as the run of a program, is looked at
// less often, so that looks take a fifth of a processor at most: what is
// watched needs it, too.
const (
	pollInterval    = 5 * time.Millisecond
	longestInterval = 100 * time.Millisecond
)

func interval(took time.Duration) time.Duration {
	return min(max(4*took, pollInterval), longestInterval)
}

// ErrNotYet is returned by Poll when the time is over.
var ErrNotYet = errors.New("not within the time")

// Poll asks until cond returns nil. After the limit it returns ErrNotYet with
// cond's last reason.
func Poll(ctx context.Context, limit time.Duration, cond func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		began := time.Now()
		err := cond()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%v): %w", ErrNotYet, limit, err)
		case <-time.After(interval(time.Since(began))):
		}
	}
}

// Eventually ends the test unless cond returns nil within the limit. It
// returns how long that took.
func Eventually(t T, limit time.Duration, what string, cond func() error) time.Duration {
	t.Helper()
	start := time.Now()
	if err := Poll(context.Background(), limit, cond); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return time.Since(start)
}
