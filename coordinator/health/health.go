// Package health asks a node's own servers whether they are well. A Check is
// one question, asked again and again; Verdict.Next, a pure function, makes a
// judgement of the answers; a Monitor runs the checks of all services.
//
// Be aware:
//   - The package knows nothing of clusters: what a judgement leads to is the
//     coordinator's.
//   - Every answer is read up to a bound (maxAnswer and the like). A server
//     that sends more is ill, not a danger.
//   - A check never overlaps itself. One that cannot be ended, as a look at a
//     file on a dead network disk, counts as failed until it returns.
//   - The agent runs at a high priority. Programs that a check starts do not
//     (package child), and nothing of them is left when the check is done.
package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// The bounds of what a check takes in.
const (
	maxAnswer   = 1 << 20  // bytes of an HTTP answer's body
	maxHeader   = 64 << 10 // bytes of an HTTP answer's header
	maxOutput   = 64 << 10 // bytes that a program writes
	maxContent  = 64 << 10 // bytes of a file
	maxGreeting = 4 << 10  // bytes of a server's first words
	maxReason   = 200      // bytes of a reason that others are told
)

// Check is one question, and how often to ask it.
type Check struct {
	// Name says in words what is asked: "http http://127.0.0.1/alive.html".
	Name     string
	Interval time.Duration // from the beginning of one attempt to the next
	Timeout  time.Duration // of one attempt
	Rules    Rules

	probe probe
}

// probe asks once. It returns nil if all is well, else what is wrong, and as
// soon as the context ends.
type probe func(ctx context.Context) error

// errHangs says that an earlier attempt has not come back.
var errHangs = errors.New("does not come to an end")

// attempts are those of one check. One is under way at most.
type attempts struct {
	check   *Check
	pending <-chan struct{} // closed at the end of an attempt that did not come back in time, or nil
}

// once asks, and returns when the answer is there or the time is over.
func (a *attempts) once(ctx context.Context) error {
	if a.pending != nil {
		select {
		case <-a.pending: // late: its answer says nothing of now
			a.pending = nil
		default:
			return errHangs
		}
	}
	ctx, cancel := context.WithTimeout(ctx, a.check.Timeout)
	defer cancel()
	var err error // once done is closed
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = a.check.probe(ctx)
	}()
	select {
	case <-done:
		return err
	case <-ctx.Done():
	}
	// Most probes tell what they waited for.
	grace := time.NewTimer(endGrace)
	defer grace.Stop()
	select {
	case <-done:
		return err // nil: it was in time, but for the last step
	case <-grace.C:
		a.pending = done
		return fmt.Errorf("%w within %v", errHangs, a.check.Timeout)
	}
}

// endGrace is what a probe has left to end in after its time.
const endGrace = 200 * time.Millisecond

// inTime says plainly that the time was over, or how a connection ended.
func inTime(ctx context.Context, err error) error {
	var network net.Error
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return errors.New("no complete answer in time")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("closed the connection before its answer was complete")
	}
	return err
}

// shorten cuts a reason to a length that a status can show, in one line.
func shorten(reason string) string {
	line := []rune{}
	for _, r := range reason {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			r = ' '
		}
		line = append(line, r)
		if len(string(line)) > maxReason {
			return string(line[:len(line)-1]) + "…"
		}
	}
	return string(line)
}
