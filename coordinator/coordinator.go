// Package coordinator decides who answers: on the leader, which node owns
// which bucket and who is dead; on every node, what its kernel must hold and
// for how long. The decisions are pure functions (plan, desired, roleOf); the
// rest carries them out. DESIGN.md beside this file tells the rules of the
// protocol and the goroutines.
package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"earshot/coordinator/child"
	"earshot/coordinator/event"
	"earshot/coordinator/hook"
	"earshot/nft"
	"earshot/raftstore"
)

// ErrNoLeader is wrapped when a command finds nobody to carry it out.
var ErrNoLeader = errors.New("the cluster has no leader that this node can reach")

// Config is what a coordinator needs to know of its node.
type Config struct {
	Node    string
	Version string
	Timing  Timing
	// Damping, Weight and Prefer are those of the start: see Settings. Weight is
	// nil where it cannot change by itself.
	Damping Damping
	Weight  func() (int, error)
	Prefer  map[string]string
	// Witness: the node votes and never answers.
	Witness bool
	// Services are the services as this node's config file has them.
	Services []raftstore.Definition
	// Ears listen to the services' segments; nil on a witness, which has none.
	Ears Ears
	// Health judges this node's own servers; nil: nobody does.
	Health Health
	// Fallback judges them by a lighter check, for the case that no node
	// serves; nil: nobody does.
	Fallback Health
	// Settings are the config's at the start; Source reads them again. Nil: they
	// cannot be.
	Settings Settings
	Source   func() (Settings, error)
	// Socket is where commands find this agent, for hooks that run some.
	Socket string
	// Children starts other programs; nil: directly.
	Children *child.Runner
	// Repairs counts how often the kernel was repaired; nil: it never is.
	Repairs func() uint64
}

// Coordinator is one node's part in the cluster.
type Coordinator struct {
	cfg     Config
	store   Store
	kernel  Kernel
	peers   Peers
	log     *slog.Logger
	process int64
	// renewals counts those that have been made.
	renewals atomic.Uint64

	news       *news
	heard      hearsay
	reconciler *reconciler
	wiring     wiring
	release    *release
	disowner   *disowner
	fitness    *fitness
	asker      *asker
	tenant     *tenant
	leader     *leader
	registrar  *registrar
	drainer    *drainer
	hearing    atomic.Int32 // examinations that this node takes part in
	conntrack  atomic.Pointer[nft.ConntrackUse]
	observer   *observer
	events     event.Hub
	hooks      *hook.Hooks
	file       fileConfig
	reloading  sync.Mutex
	scale      *scale
	prefer     atomic.Pointer[map[string]string]
	queue      func(time.Time) float64
	load       BucketLoad
	counted    *counted
}

// New joins the parts. Nothing runs before Run.
func New(cfg Config, store Store, kernel Kernel, peers Peers, log *slog.Logger) *Coordinator {
	c := &Coordinator{
		cfg: cfg, store: store, kernel: kernel, peers: peers, log: log,
		process: store.Process(), news: newNews(), heard: newHearsay(cfg.Node, time.Now()), counted: newCounted(),
	}
	c.wiring.set(cfg.Services)
	c.reconciler = &reconciler{
		node: cfg.Node, wiring: &c.wiring, store: store, kernel: kernel, news: c.news, rewired: make(chan struct{}, 1),
		log: log, onHeld: c.mapHeld, drifted: make(chan struct{}, 1), settle: settling{time: cfg.Timing.Settle},
	}
	c.release = newRelease(kernel, c.released, log)
	c.reconciler.release = c.release
	c.disowner = newDisowner(kernel, log)
	c.reconciler.disown, c.reconciler.patient = c.disowner, cfg.Timing.Lease/4
	c.asker = &asker{
		node: cfg.Node, store: store, kernel: kernel, news: c.news, opened: c.reconciler.letsThrough,
		known: c.askWhose, log: log, wake: make(chan struct{}, 1),
	}
	c.reconciler.parting.held, c.reconciler.parting.queued = c.asker.oldest, kernel.Queued
	c.reconciler.onMended, c.reconciler.onAppeared = c.announceAgain, c.announceAgain
	c.fitness = &fitness{
		node: cfg.Node, store: store, health: cfg.Health, fallback: cfg.Fallback, pace: cfg.Timing.Renew,
		onChange: func() { c.tenant.renewNow() },
	}
	c.reconciler.fitness = c.fitness
	c.tenant = &tenant{
		timing: cfg.Timing, kernel: kernel, log: log, held: c.held, ask: c.askForLease,
		request: c.renewal, learn: c.news.learn, gained: c.announce,
		wake: make(chan struct{}, 1), anew: make(chan struct{}, 1),
	}
	c.reconciler.leased = c.tenant.granted
	c.leader = &leader{
		store: store, timing: cfg.Timing, news: c.news, heard: &c.heard, log: log, started: time.Now(),
		ledger: &ledger{timing: cfg.Timing},
		quorum: &quorum{node: cfg.Node, store: store, peers: peers, own: &c.heard, timing: cfg.Timing},
		wake:   make(chan struct{}, 1), greet: greeting{renew: cfg.Timing.Renew, ask: c.tenant.greet},

		surveyor: surveyor{store: store, ask: c.heatOf, log: log},
	}
	c.leader.ledger.damping.set(cfg.Damping)
	c.prefer.Store(&cfg.Prefer)
	c.scale = &scale{log: log, wake: make(chan struct{}, 1), tell: func(weight int) {
		store.SetWeight(weight)
		c.tenant.renewNow()
	}}
	c.scale.follow(cfg.Weight)
	c.load, c.queue = &flowLoad{kernel: kernel}, new(runQueue).look
	c.registrar = &registrar{store: store, timing: cfg.Timing, ledger: c.leader.ledger, log: log}
	c.drainer = &drainer{
		node: cfg.Node, wiring: &c.wiring, store: store, kernel: kernel, released: c.release.told,
		propose: c.execute, log: log, deaf: c.fitness.isDeaf, wake: make(chan struct{}, 1), endings: newEndings(),
		patience: cfg.Timing.asked, releasedAt: c.release.last,
	}
	c.reconciler.endings, c.reconciler.onEnded = c.drainer.endings, func() { signal(c.drainer.wake) }
	cfg.Settings.Services = cfg.Services
	c.file.now, c.file.running = cfg.Settings, cfg.Settings.Values
	if cfg.Children == nil {
		cfg.Children = &child.Runner{}
	}
	c.hooks = &hook.Hooks{Node: cfg.Node, Socket: cfg.Socket, Runner: cfg.Children, Log: log}
	c.hooks.Set(cfg.Settings.Hooks)
	c.observer = c.newObserver()
	return c
}

// Run takes part in the cluster until ctx ends, serving the control socket's
// API on control. It calls ready once the kernel holds the newest map.
func (c *Coordinator) Run(ctx context.Context, control net.Listener, ready func()) error {
	hooked, err := c.events.Listen() // before there is any
	if err != nil {
		return err
	}
	defer hooked.Close()
	server := &http.Server{Handler: c.controlAPI(), ReadHeaderTimeout: 5 * time.Second}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.reconciler.run(ctx, ready) })
	g.Go(func() error { return c.release.run(ctx) })
	g.Go(func() error { return c.disowner.run(ctx) })
	g.Go(func() error { return c.asker.hold(ctx) })
	g.Go(func() error { return c.asker.run(ctx) })
	g.Go(func() error { return c.tenant.run(ctx) })
	g.Go(func() error { return c.leader.run(ctx) })
	g.Go(func() error { return c.registrar.run(ctx) })
	g.Go(func() error { return c.drainer.run(ctx) })
	g.Go(func() error { return c.watchConntrack(ctx) })
	for _, h := range []Health{c.cfg.Health, c.cfg.Fallback} {
		if h != nil {
			g.Go(func() error { return h.Run(ctx, func() { c.fitness.changed(time.Now()) }) })
		}
	}
	g.Go(func() error { return c.observer.run(ctx) })
	g.Go(func() error { return c.hooks.Run(ctx, hooked) })
	g.Go(func() error { return c.scale.run(ctx) })
	g.Go(func() error { return c.leader.surveyor.run(ctx) })
	g.Go(func() error { return c.defineServices(ctx) })
	g.Go(func() error { return c.listenQueriers(ctx) })
	g.Go(func() error { return c.kernel.Watch(ctx, c.reconciler.drift) })
	g.Go(func() error {
		if err := server.Serve(control); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the control socket: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	return g.Wait()
}

// Admit decides whether a server with a new disk may take over a node's name:
// not while the node that has it may be alive. From then on that one is granted
// nothing, until settled says what became of it.
func (c *Coordinator) Admit(_ context.Context, j raftstore.Join) (settled func(error), err error) {
	n, known := c.store.State().Nodes[j.Name]
	if !known || n.ServerID == j.ServerID {
		return func(error) {}, nil
	}
	if err := c.leader.ledger.supersede(time.Now(), j.Term, n); err != nil {
		return nil, fmt.Errorf("%w: %s, at %s, is alive: %w", raftstore.ErrNameTaken, j.Name, n.Listen, err)
	}
	return func(err error) {
		// What may still come through ends with the term, at the latest.
		if !errors.Is(err, raftstore.ErrUnknown) {
			c.leader.ledger.settle(j.Term, j.Name)
		}
	}, nil
}

// renewal is what this node says of itself to the leader.
func (c *Coordinator) renewal() renewal {
	number := c.renewals.Add(1) // before what it tells is looked at
	unfit, spare := c.fitness.unfit()
	return renewal{
		Node: c.cfg.Node, ServerID: c.store.ServerID(), Process: c.process, Number: number,
		level: c.level(), Version: c.cfg.Version, Problems: c.problems(), Unfit: unfit, Spare: spare,
		Lease: c.cfg.Timing.Lease, Profile: c.profile(), Queue: c.queue(time.Now()),
	}
}

// askForLease asks whoever leads.
func (c *Coordinator) askForLease(ctx context.Context, r renewal) (grant, error) {
	lead := c.store.Leadership()
	switch {
	case lead.Self:
		return c.leader.grantTo(ctx, r)
	case lead.Addr == "":
		return grant{}, ErrNoLeader
	}
	var g grant
	err := c.peers.Call(ctx, lead.Addr, pathRenew, r, &g)
	return g, err
}

// execute has the leader commit a command that does no harm twice. It waits
// for a leader until ctx ends.
func (c *Coordinator) execute(ctx context.Context, cmd raftstore.Command) error {
	return c.insist(ctx, func() error { return c.executeOnce(ctx, cmd) })
}

// executeWithin executes a command within the time that an operator's has.
func (c *Coordinator) executeWithin(ctx context.Context, cmd raftstore.Command) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	return c.execute(ctx, cmd)
}

// insist asks again while nobody leads.
func (c *Coordinator) insist(ctx context.Context, ask func() error) error {
	for {
		err := ask()
		if err == nil || !again(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(c.cfg.Timing.Renew):
		}
	}
}

func (c *Coordinator) executeOnce(ctx context.Context, cmd raftstore.Command) error {
	lead := c.store.Leadership()
	switch {
	case lead.Self:
		return c.propose(ctx, cmd)
	case lead.Addr == "":
		return ErrNoLeader
	}
	// A leader that hangs is not to take all the time that there is for a command.
	ctx, cancel := context.WithTimeout(ctx, max(4*c.cfg.Timing.Lease, time.Second))
	defer cancel()
	return c.peers.Call(ctx, lead.Addr, pathPropose, cmd, nil)
}

// again reports whether a command may succeed at the next try.
func again(err error) bool {
	var refusal *RemoteError
	if errors.As(err, &refusal) {
		return refusal.NoLeader || refusal.Unknown
	}
	var network net.Error
	return noLeader(err) || errors.As(err, &network) || errors.Is(err, raftstore.ErrUnknown)
}

// services are this node's services, to count flows of: its part of the buckets
// does not matter.
func (c *Coordinator) services() []nft.Service {
	return desired(c.store.State(), c.cfg.Node, knowledge{interfaces: c.wiring.all()}).Services
}
