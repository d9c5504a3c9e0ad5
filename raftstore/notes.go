package raftstore

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// noteEvery is how often one kind of note is logged.
	noteEvery = 10 * time.Second
	// noteKinds bounds the kinds that are remembered, since some carry a
	// stranger's address.
	noteKinds = 256
)

// notes logs what may happen very often, each kind at most every noteEvery.
type notes struct {
	log *slog.Logger

	mu   sync.Mutex
	last map[string]note
}

type note struct {
	at      time.Time
	skipped int
}

func newNotes(log *slog.Logger) *notes { return &notes{log: log, last: map[string]note{}} }

// say logs a note of a kind, if it is time for it.
func (n *notes) say(level slog.Level, kind, message string, args ...any) {
	skipped, ok := n.due(kind, time.Now())
	if !ok {
		return
	}
	if skipped > 0 {
		args = append(args, "not_logged", skipped)
	}
	n.log.Log(context.Background(), level, message, args...)
}

// due reports whether a note of the kind may be logged, and how many were not
// since the last one.
func (n *notes) due(kind string, now time.Time) (skipped int, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if have, known := n.last[kind]; known && now.Sub(have.at) < noteEvery {
		have.skipped++
		n.last[kind] = have
		return 0, false
	}
	skipped = n.last[kind].skipped
	if len(n.last) >= noteKinds {
		clear(n.last)
	}
	n.last[kind] = note{at: now}
	return skipped, true
}
