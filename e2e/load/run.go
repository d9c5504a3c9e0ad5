package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"earshot/e2e/lab"
)

// Run is a generator at work.
type Run struct {
	*child
	finished chan struct{}

	mu      sync.Mutex
	records []Record
	err     error
}

// Start starts a generator in the namespace. Stop it, or Wait for a plan with
// a count.
func Start(n *lab.Namespace, p Plan) (*Run, error) {
	if _, err := p.complete(); err != nil {
		return nil, err
	}
	c, err := order(n, roleGenerate, p, "")
	if err != nil {
		return nil, err
	}
	r := &Run{child: c, finished: make(chan struct{})}
	go r.collect()
	return r, nil
}

// collect gathers the records until the generator has ended.
func (r *Run) collect() {
	defer close(r.finished)
	for {
		var record Record
		err := r.lines.Decode(&record)
		r.mu.Lock()
		switch {
		case err == nil:
			r.records = append(r.records, record)
		case !errors.Is(err, io.EOF):
			r.err = fmt.Errorf("read from generator: %w", err)
		}
		r.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Records are the requests that have ended so far, in the order of their end.
func (r *Run) Records() Records {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.records)
}

// Count is how many requests have ended so far. Records copies all of them.
func (r *Run) Count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.records)
}

// Await waits until at least n requests have ended.
func (r *Run) Await(n int, limit time.Duration) error {
	return lab.Poll(context.Background(), limit, func() error {
		if got := r.Count(); got < n {
			return fmt.Errorf("%d requests of %d", got, n)
		}
		return nil
	})
}

// AwaitMore waits until n more requests have ended.
func (r *Run) AwaitMore(n int, limit time.Duration) error { return r.Await(r.Count()+n, limit) }

// Stop starts no more requests, waits for those that run, and returns all.
func (r *Run) Stop() (Records, error) {
	r.leash.Close()
	return r.Wait()
}

// Wait waits until a plan with a count is done, and returns all requests.
func (r *Run) Wait() (Records, error) {
	<-r.finished
	status, err := r.Process.Wait(context.Background())
	r.close()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.err != nil:
		return r.records, r.err
	case err != nil:
		return r.records, err
	case status != 0:
		return r.records, fmt.Errorf("generator ended with status %d", status)
	}
	return r.records, nil
}
