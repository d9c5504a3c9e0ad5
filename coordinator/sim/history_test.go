package sim

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// remembered is how many events a history keeps.
const remembered = 3000

// event is one thing that happened. It is put into words only when a run has
// failed.
type event struct {
	at     time.Duration
	node   string
	format string
	args   []any
}

func (e event) String() string {
	return fmt.Sprintf("%14.6f %-3s %s", e.at.Seconds(), e.node, fmt.Sprintf(e.format, e.args...))
}

// history is what happened in a run: all faults, and the newest events.
type history struct {
	began time.Time

	mu     sync.Mutex
	events []event // a ring
	next   int
	faults []event
}

func newHistory() *history { return &history{began: time.Now()} }

// note keeps an event of a node.
func (h *history) note(n *node, format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	name := ""
	if n != nil {
		name = n.name
	}
	h.keep(event{time.Since(h.began), name, format, args})
}

func (h *history) keep(e event) {
	if len(h.events) < remembered {
		h.events = append(h.events, e)
		return
	}
	h.events[h.next] = e
	h.next = (h.next + 1) % remembered
}

// say keeps an event of nobody.
func (h *history) say(text string) { h.note(nil, "%s", text) }

// fault keeps a fault, or the operator's doing.
func (h *history) fault(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := event{time.Since(h.began), "***", format, args}
	h.faults = append(h.faults, e)
	h.keep(e)
}

// tell puts the last faults and events into words.
func (h *history) tell(faults, events int) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "faults, the last %d of %d:\n", min(faults, len(h.faults)), len(h.faults))
	for _, e := range h.faults[max(0, len(h.faults)-faults):] {
		fmt.Fprintln(&b, e)
	}
	all := append(append([]event{}, h.events[h.next:]...), h.events[:h.next]...)
	fmt.Fprintf(&b, "events, the last %d:\n", min(events, len(all)))
	for _, e := range all[max(0, len(all)-events):] {
		fmt.Fprintln(&b, e)
	}
	return b.String()
}

// logOf returns a logger into the history.
func (h *history) logOf(n *node, least slog.Level) *slog.Logger {
	return slog.New(logHandler{h: h, n: n, least: least})
}

type logHandler struct {
	h     *history
	n     *node
	least slog.Level
}

func (l logHandler) Enabled(_ context.Context, at slog.Level) bool { return at >= l.least }
func (l logHandler) WithAttrs([]slog.Attr) slog.Handler            { return l }
func (l logHandler) WithGroup(string) slog.Handler                 { return l }

func (l logHandler) Handle(_ context.Context, r slog.Record) error {
	l.h.note(l.n, "%v", record{r})
	return nil
}

// record is a log record that is put into words later.
type record struct{ slog.Record }

func (r record) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[%v] %s", r.Level, r.Message)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	})
	return b.String()
}

// dice is a source of random numbers for many goroutines.
type dice struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func newDice(seed, stream uint64) *dice { return &dice{rng: rand.New(rand.NewPCG(seed, stream))} }

func (d *dice) float() float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.Float64()
}

func (d *dice) chance(p float64) bool { return d.float() < p }

func (d *dice) below(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.IntN(n)
}

// upTo is a random time up to max.
func (d *dice) upTo(most time.Duration) time.Duration {
	return time.Duration(d.float() * float64(most))
}

// around is a random time of the given mean: mostly near it, seldom far above.
func (d *dice) around(mean time.Duration) time.Duration {
	x := d.float()
	if x > 0.99 {
		return 10 * mean
	}
	return time.Duration((0.4 + x) * float64(mean))
}
