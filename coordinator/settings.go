package coordinator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"earshot/coordinator/event"
	"earshot/coordinator/hook"
	"earshot/raftstore"
)

// Settings are what a config file says, as far as it can be read again while
// the agent runs.
type Settings struct {
	// Values has every key of the config, "lease" or "services.web.hash", with
	// its value as text: what differs has changed.
	Values map[string]string
	// Services are the services as the file has them.
	Services []raftstore.Definition
	// Hooks are programs to run when something happens.
	Hooks hook.Config
	// Damping is how much patience the plan has while this node leads.
	Damping Damping
	// Weight reads this node's weight; nil: it stays as it is.
	Weight func() (int, error)
	// Prefer has, by service, the buckets that this node would rather have than
	// others, as hashmode.Set writes them.
	Prefer map[string]string
	// Checks puts the file's health checks into effect; nil: nobody checks.
	Checks func()
}

// livePart is a part of the settings that changes without a restart.
type livePart struct {
	// keys of the config: "hooks", or "services.*.check" for one of each service.
	keys []string
	// take puts the part into effect. It must not wait.
	take func(*Coordinator, Settings)
}

// liveParts is the one place that says what changes without a restart. Whoever
// builds such a key enters it here.
func liveParts() []livePart {
	return []livePart{
		{keys: []string{"services.*.check", "services.*.fallback_check"}, take: func(_ *Coordinator, s Settings) {
			if s.Checks != nil {
				s.Checks()
			}
		}},
		{keys: []string{"hooks", "hook_timeout"}, take: func(c *Coordinator, s Settings) { c.hooks.Set(s.Hooks) }},
		{keys: []string{"weight"}, take: func(c *Coordinator, s Settings) { c.scale.follow(s.Weight) }},
		{keys: []string{"services.*.interface"}, take: (*Coordinator).rewire},
		{keys: []string{"services.*.prefer"}, take: func(c *Coordinator, s Settings) { c.prefers(s.Prefer) }},
		{keys: []string{"mature", "round", "moves_per_round"}, take: func(c *Coordinator, s Settings) { c.leader.ledger.damping.set(s.Damping) }},
	}
}

// The ways in which a change of a key gets into effect.
type effect int

const (
	byRestart effect = iota
	byReload
	byApply // `earshot apply`, for the whole cluster
)

// effectOf says how a key gets into effect.
func effectOf(key string) effect {
	general := key
	if strings.HasPrefix(key, "services.") {
		general = "services.*" + key[strings.LastIndexByte(key, '.'):]
	}
	for _, part := range liveParts() {
		if slices.Contains(part.keys, general) {
			return byReload
		}
	}
	if general != key {
		return byApply
	}
	return byRestart
}

// Reloaded says what a config that was read again has changed. Keys are sorted.
type Reloaded struct {
	// Changed is in effect now.
	Changed []string `json:"changed"`
	// Restart has what differs from what runs, and needs a restart of the agent.
	Restart []string `json:"restart"`
	// Apply has what belongs to the cluster: `earshot apply` changes it.
	Apply []string `json:"apply"`
}

// String says it in words, for logs and events.
func (r Reloaded) String() string {
	var parts []string
	add := func(keys []string, what string) {
		if len(keys) > 0 {
			parts = append(parts, strings.Join(keys, ", ")+" "+what)
		}
	}
	add(r.Changed, "changed")
	add(r.Apply, "differ from before: see `earshot apply`")
	add(r.Restart, "need a restart")
	if len(parts) == 0 {
		return "nothing has changed"
	}
	return strings.Join(parts, "; ")
}

// compare says what the new settings change. running has the values that are in
// effect, or were when they were last read.
func compare(running map[string]string, next Settings) Reloaded {
	r := Reloaded{Changed: []string{}, Restart: []string{}, Apply: []string{}}
	keys := maps.Clone(running)
	maps.Copy(keys, next.Values)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		was, before := running[key]
		is, after := next.Values[key]
		if was == is && before == after {
			continue
		}
		switch effectOf(key) {
		case byReload:
			r.Changed = append(r.Changed, key)
		case byApply:
			r.Apply = append(r.Apply, key)
		default:
			r.Restart = append(r.Restart, key)
		}
	}
	return r
}

// config is what this node's config file says.
type fileConfig struct {
	mu      sync.Mutex
	now     Settings
	running map[string]string // the values in effect
	restart []string          // keys of now that need a restart
	problem error             // why the file could not be read again
}

// services are those of the file, as it was last read.
func (f *fileConfig) services() []raftstore.Definition {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now.Services
}

// problems are what is wrong with the file.
func (f *fileConfig) problems() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	if f.problem != nil {
		all = append(all, fmt.Sprintf("the config was changed and is refused, so that the one before is in effect: %v", firstLine(f.problem)))
	}
	if len(f.restart) > 0 {
		all = append(all, fmt.Sprintf("the config's %s needs a restart of the agent to get into effect", strings.Join(f.restart, ", ")))
	}
	return all
}

func firstLine(err error) string {
	line, more, _ := strings.Cut(err.Error(), "\n")
	if more != "" {
		line += " …"
	}
	return line
}

// refuse keeps why the file is not in effect.
func (f *fileConfig) refuse(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.problem = err
}

// accept takes new settings in and says what they change.
func (f *fileConfig) accept(next Settings) Reloaded {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := compare(f.running, next)
	running := maps.Clone(next.Values)
	for _, key := range r.Restart {
		if delete(running, key); f.running[key] != "" {
			running[key] = f.running[key]
		}
	}
	f.now, f.running, f.restart, f.problem = next, running, r.Restart, nil
	return r
}

// errNoFile: this agent was started without a file that could be read again.
var errNoFile = errors.New("this agent has no config file to read again")

// Reload reads the config again and puts into effect what needs no restart. A
// config with an error changes nothing: the error is returned, logged and shown
// in the status.
func (c *Coordinator) Reload() (Reloaded, error) {
	if c.cfg.Source == nil {
		return Reloaded{}, errNoFile
	}
	c.reloading.Lock() // one after another, so that the last one read is in effect
	defer c.reloading.Unlock()
	next, err := c.cfg.Source()
	if err != nil {
		c.log.Error("the config is refused and changes nothing", "error", err)
		c.file.refuse(err)
		return Reloaded{}, err
	}
	r := c.file.accept(next)
	for _, part := range liveParts() {
		part.take(c, next)
	}
	c.log.Info("config read again", "changed", r.Changed, "needs_restart", r.Restart, "needs_apply", r.Apply)
	c.events.Tell(time.Now(), []event.Event{{Type: event.Reload, By: c.cfg.Node, Node: c.cfg.Node, Reason: r.String()}})
	return r, nil
}

// reload answers the operator. What is wrong with a config is his to mend: the
// same command would fail again.
func (c *Coordinator) reload(context.Context, struct{}) (Reloaded, error) {
	r, err := c.Reload()
	if err != nil {
		return r, &RemoteError{Message: err.Error(), Hint: "nothing was changed; mend the file and run it again", Misuse: !errors.Is(err, errNoFile)}
	}
	return r, nil
}
