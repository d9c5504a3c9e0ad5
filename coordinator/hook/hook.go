// Package hook runs an operator's programs when something happens. Each hook
// has a queue of its own: its programs run one after another, in the order of
// the events, and no hook holds up another, or the agent.
package hook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"earshot/coordinator/child"
	"earshot/coordinator/event"
)

const (
	// maxQueue is how many events wait for one hook.
	maxQueue = 256
	// maxOutput is how much of a program's output goes to the log.
	maxOutput = 4 << 10
)

// DefaultTimeout is how long a program may run unless the config says otherwise.
const DefaultTimeout = 10 * time.Second

// Config says what to run.
type Config struct {
	// Commands are programs with their arguments.
	Commands map[event.Type][]string
	// Timeout is how long one run may take.
	Timeout time.Duration
}

// Hooks runs programs. Run must be running.
type Hooks struct {
	// Node is this one, and Socket where commands find its agent.
	Node, Socket string
	Runner       *child.Runner
	Log          *slog.Logger

	mu     sync.Mutex
	config Config
	queues map[event.Type]*queue
}

// queue has the events that wait for one hook.
type queue struct {
	events []event.Event
	missed uint64 // events that did not fit, after the last one
	busy   bool   // somebody works on it
}

// Set changes what is run. What waits already is run by the new commands, or
// not at all.
func (h *Hooks) Set(c Config) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.config = c
}

// Run runs hooks for the events of the listener until ctx ends, and kills the
// programs that run then.
func (h *Hooks) Run(ctx context.Context, events *event.Listener) error {
	var working sync.WaitGroup
	defer working.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-events.Wake():
		}
		for _, e := range events.Take() {
			if h.put(e) {
				working.Go(func() { h.work(ctx, e.Type) })
			}
		}
	}
}

// concerns reports whether the node runs hooks for the event: what happens to
// a node's kernel or server concerns that node alone.
func (h *Hooks) concerns(e event.Event) bool { return !e.Type.OfNode() || e.Node == h.Node }

// put queues the event, and reports whether somebody has to begin to work.
func (h *Hooks) put(e event.Event) (begin bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.config.Commands[e.Type]) == 0 || !h.concerns(e) {
		return false
	}
	if h.queues == nil {
		h.queues = map[event.Type]*queue{}
	}
	q := h.queues[e.Type]
	if q == nil {
		q = &queue{}
		h.queues[e.Type] = q
	}
	if len(q.events) >= maxQueue {
		if q.missed == 0 {
			h.Log.Warn("a hook is too slow: it misses events", "hook", Name(e.Type), "waiting", len(q.events))
		}
		q.missed++
		return false
	}
	q.events = append(q.events, e)
	begin = !q.busy
	q.busy = true
	return begin
}

// work runs a hook for each event that waits for it.
func (h *Hooks) work(ctx context.Context, t event.Type) {
	for {
		e, c, ok := h.next(ctx, t)
		if !ok {
			return
		}
		if len(c.Commands[t]) > 0 {
			h.run(ctx, c, e)
		}
	}
}

// next takes the next event. What was missed after the last one goes with it.
func (h *Hooks) next(ctx context.Context, t event.Type) (event.Event, Config, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := h.queues[t]
	if len(q.events) == 0 || ctx.Err() != nil {
		q.busy = false
		return event.Event{}, Config{}, false
	}
	e := q.events[0]
	if q.events = q.events[1:]; len(q.events) == 0 {
		e.Missed, q.missed = q.missed, 0
	}
	return e, h.config, true
}

// run runs the hook once.
func (h *Hooks) run(ctx context.Context, c Config, e event.Event) {
	facts, err := json.Marshal(e)
	if err != nil {
		h.Log.Error("hook not run", "hook", Name(e.Type), "error", err)
		return
	}
	began := time.Now()
	result, err := h.Runner.Run(ctx, child.Command{
		Args: c.Commands[e.Type], Env: h.environ(e), Stdin: append(facts, '\n'), Timeout: c.Timeout, MaxOutput: maxOutput,
	})
	words := []any{"hook", Name(e.Type), "seq", e.Seq, "took", time.Since(began).Round(time.Millisecond)}
	if output := strings.TrimSpace(string(result.Output)); output != "" {
		words = append(words, "output", output, "cut", result.Cut)
	}
	switch {
	case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		h.Log.Info("hook stopped with the agent", words...)
	case err != nil:
		h.Log.Error("hook failed", append(words, "error", err)...)
	case !result.OK():
		h.Log.Error("hook failed", append(words, "result", result.String())...)
	default:
		h.Log.Info("hook ran", words...)
	}
}

// environ is what a hook is told in its environment; docs/config.md lists it.
func (h *Hooks) environ(e event.Event) []string {
	env := []string{"EARSHOT_SOCKET=" + h.Socket, "EARSHOT_SELF=" + h.Node}
	for _, fact := range []struct {
		name  string
		value any
	}{
		{"EVENT", e.Type}, {"SEQ", e.Seq}, {"TIME", e.Time.Format(time.RFC3339Nano)}, {"NODE", e.Node}, {"SERVICE", e.Service},
		{"BUCKETS", e.Buckets}, {"COUNT", e.Count}, {"REASON", e.Reason}, {"EPOCH", e.Epoch}, {"MISSED", e.Missed},
	} {
		// An environment cannot have a zero byte.
		env = append(env, "EARSHOT_"+fact.name+"="+strings.ReplaceAll(fmt.Sprint(fact.value), "\x00", ""))
	}
	return env
}

// Name is the name of the hook for a type of events, as the config has it.
func Name(t event.Type) string { return "on_" + string(t) }

// Names are the names of all hooks.
func Names() map[string]event.Type {
	names := map[string]event.Type{}
	for _, t := range event.Types() {
		if t != event.Missed { // a hook's own queue says what it missed
			names[Name(t)] = t
		}
	}
	return names
}
