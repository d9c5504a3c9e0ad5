package coordinator

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"earshot/hashmode"
	"earshot/raftstore"
)

// troupe is a cluster that node a leads in earnest, while the test plays the
// other nodes: they renew, fall ill, die and come back. Every command is kept
// with its time. The test runs in a synctest bubble.
type troupe struct {
	t       *testing.T
	c       *Coordinator
	kernel  *modelKernel
	timing  Timing
	damping Damping
	stop    func()
	rate    func(hashmode.Bucket) float64 // load of each bucket
	enter   func(name string)             // has a node play
	playing sync.WaitGroup

	*modelStore
	mu      sync.Mutex
	entries []entry
	players map[string]*player
}

// entry is a command that was applied.
type entry struct {
	at            time.Time
	before, after *raftstore.State
	command       raftstore.Command
}

// player is a node that the test plays.
type player struct {
	alive   bool
	process int64
	ill     map[string]string
	renewed time.Time
	died    time.Time
}

// perform starts a cluster of nodes a, b, c, … with even shares, past its
// first formation.
func perform(t *testing.T, nodes, buckets int, d Damping) *troupe {
	h := newHistory(t)
	for i := range nodes {
		h.join(string(rune('a'+i)), 1)
	}
	h.define("web", buckets)
	h.replan()
	h.must(raftstore.Command{Formed: &raftstore.Formed{Term: testTerm}})
	return performWith(t, h, d, func(hashmode.Bucket) float64 { return 0 })
}

// performWith goes on from a history.
func performWith(t *testing.T, h *history, d Damping, rate func(hashmode.Bucket) float64) *troupe {
	timing, err := NewTiming(300*time.Millisecond, 4*time.Millisecond, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	p := &troupe{t: t, kernel: &modelKernel{}, rate: rate, timing: timing, damping: d, players: map[string]*player{}, modelStore: &modelStore{
		history: h, lead: raftstore.Leadership{Term: testTerm, Addr: "a:7440", Self: true},
	}}
	p.c = New(Config{Node: "a", Timing: timing, Damping: d}, p, p.kernel, heated{p}, slog.New(slog.DiscardHandler))
	p.c.load, p.c.queue = p, func(time.Time) float64 { return 0 }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.c.Run(ctx, newIdleListener(), func() {}) }()
	p.enter = func(name string) {
		p.mu.Lock()
		p.players[name] = &player{alive: true, process: 1, ill: map[string]string{}}
		p.mu.Unlock()
		p.playing.Go(func() { p.play(ctx, name) })
	}
	for _, name := range h.state.NodeNames() {
		if name != "a" {
			p.enter(name)
		}
	}
	p.stop = func() {
		cancel()
		p.playing.Wait()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	return p
}

// join adds a node to the cluster.
func (p *troupe) join(name string) {
	p.t.Helper()
	join := raftstore.Join{Name: name, ServerID: "id-" + name, Listen: name + ":7440", Weight: 1}
	if _, err := p.Propose(p.t.Context(), raftstore.Command{Join: &join}); err != nil {
		p.t.Fatal(err)
	}
	p.enter(name)
}

// Propose keeps what is applied.
func (p *troupe) Propose(ctx context.Context, c raftstore.Command) (uint64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.modelStore.State()
	index, err := p.modelStore.Propose(ctx, c)
	if err == nil && c.Tick == nil {
		p.entries = append(p.entries, entry{time.Now(), before, p.modelStore.State(), c})
	}
	return index, err
}

// play renews the leases of one node while it lives. It follows at once.
func (p *troupe) play(ctx context.Context, name string) {
	ticker := time.NewTicker(p.timing.Renew)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		p.mu.Lock()
		me := *p.players[name]
		held := p.modelStore.State().Index
		r := renewal{Node: name, ServerID: "id-" + name, Process: me.process, level: level{Held: held, Released: held}, Unfit: maps.Clone(me.ill)}
		p.mu.Unlock()
		if !me.alive {
			continue
		}
		sent := time.Now()
		if _, err := p.c.leader.grantTo(ctx, r); err == nil {
			p.mu.Lock()
			p.players[name].renewed = sent
			p.mu.Unlock()
		}
	}
}

// set changes a player.
func (p *troupe) set(name string, change func(*player)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p.players[name])
}

func (p *troupe) kill(name string) {
	p.set(name, func(me *player) { me.alive, me.died = false, time.Now() })
}

func (p *troupe) revive(name string) {
	p.set(name, func(me *player) { me.alive, me.process = true, me.process+1 })
}

func (p *troupe) setIll(name, service string, ill bool) {
	if name == "a" {
		p.kernel.mu.Lock()
		p.kernel.deaf = ill
		p.kernel.mu.Unlock()
		p.c.reconciler.drift()
		return
	}
	p.set(name, func(me *player) {
		delete(me.ill, service)
		if ill {
			me.ill[service] = "ill"
		}
	})
}

// logged returns what has been applied since the start.
func (p *troupe) logged() []entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.entries)
}

// evenings lists the buckets that were moved though their owner served, with
// the time.
func evenings(entries []entry) map[hashmode.Bucket][]time.Time {
	all := map[hashmode.Bucket][]time.Time{}
	for _, e := range entries {
		if e.command.Assign == nil {
			continue
		}
		for b, slot := range e.before.Services["web"].Map {
			if owner, known := e.before.Nodes[slot.Owner]; known && owner.Serves("web") && e.after.Services["web"].Map[b].Owner != slot.Owner {
				all[hashmode.Bucket(b)] = append(all[hashmode.Bucket(b)], e.at)
			}
		}
	}
	return all
}

// checkPace demands that in no round more buckets were moved for evenness than
// the damping allows, and none twice.
func (p *troupe) checkPace() {
	p.t.Helper()
	var all []time.Time
	for b, times := range evenings(p.logged()) {
		for i := 1; i < len(times); i++ {
			if d := times[i].Sub(times[i-1]); d <= p.damping.Round {
				p.t.Errorf("bucket %d was moved twice within %v", b, d)
			}
		}
		all = append(all, times...)
	}
	slices.SortFunc(all, time.Time.Compare)
	for i := range all {
		if n := i + p.damping.MovesPerRound; n < len(all) && all[n].Sub(all[i]) <= p.damping.Round {
			p.t.Errorf("more than %d buckets were moved within %v", p.damping.MovesPerRound, all[n].Sub(all[i]))
			return
		}
	}
}

// checkCalm demands that nothing was evened out in the middle of a failure.
func (p *troupe) checkCalm() {
	p.t.Helper()
	var death time.Time
	for _, e := range p.logged() {
		if e.command.Death != nil {
			death = e.at
		}
		if len(evenings([]entry{e})) > 0 && e.at.Sub(death) < lull*p.timing.Lease {
			p.t.Errorf("shares were evened out %v after a death", e.at.Sub(death))
		}
	}
}

// checkOwners demands that every bucket has an owner that lives (I2).
func (p *troupe) checkOwners() {
	p.t.Helper()
	st := p.modelStore.State()
	for b, slot := range st.Services["web"].Map {
		if n, known := st.Nodes[slot.Owner]; !known || n.Failed {
			p.t.Fatalf("bucket %d has no living owner: %+v", b, slot)
		}
	}
}

// losses counts how often each node was lost to the service.
func losses(entries []entry) map[string]int {
	n := map[string]int{}
	for _, e := range entries {
		if f := e.command.Fitness; f != nil && f.Unfit["web"] != "" && e.before.Nodes[f.Node].Unfit["web"] == "" {
			n[f.Node]++
		}
	}
	return n
}

// names are all nodes.
func (p *troupe) names() []string { return p.modelStore.State().NodeNames() }

// dice are random numbers that a seed repeats.
func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }
