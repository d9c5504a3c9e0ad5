package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"earshot/coordinator"
	"earshot/coordinator/child"
	"earshot/coordinator/health"
	"earshot/nft"
	"earshot/raftstore"
)

var errRunning = errors.New("an agent is already running")

// leaveTimeout is how long a stopping agent tries to leave in order.
const leaveTimeout = 3 * time.Second

// endTimeout is how long the parts may take to end before they are left.
const endTimeout = 5 * time.Second

// runAgent joins the parts of a node and runs them until ctx ends.
func runAgent(ctx context.Context, cfg config, logger *slog.Logger) error {
	listen, err := cfg.resolveListen()
	if err != nil {
		return err
	}
	peers, err := resolvePeers(ctx, cfg.Peers)
	if err != nil {
		return err
	}
	key, err := readKey(cfg.KeyFile)
	if err != nil {
		return err
	}
	timing, err := timingOf(cfg)
	if err != nil {
		return err
	}
	control, err := listenControl(cfg.Socket)
	if err != nil {
		return err
	}
	defer control.Close()
	keepHeapSmall()
	raisePriority(logger)
	keepMemory(logger)
	plane, closePlane, err := openPlane(cfg, logger)
	if err != nil {
		return err
	}
	defer closePlane()
	store, err := raftstore.Open(raftstore.Options{
		Name: cfg.Node, Listen: listen, Peers: peers, DataDir: cfg.DataDir,
		Key: key, Weight: cfg.Weight.start(), Witness: cfg.witness(), Lease: cfg.Lease, Log: logger,
		NoQueue: plane.Queue() == nft.QueueNone,
	})
	if err != nil {
		return err
	}
	children := &child.Runner{Stage: child.Self}
	checks, err := newChecker(cfg.Checks, children, logger)
	if err != nil {
		return err
	}
	fallbacks, err := newChecker(cfg.FallbackChecks, children, logger)
	if err != nil {
		return err
	}
	c := coordinator.New(coordinator.Config{
		Node: cfg.Node, Version: readVersion().number(), Timing: timing, Witness: cfg.witness(), Services: cfg.Services,
		Health: checks.monitor, Fallback: fallbacks.monitor, Ears: earsOf(cfg),
		Repairs: repairsOf(plane), Settings: settingsOf(cfg), Socket: cfg.Socket, Children: children,
		Source: func() (coordinator.Settings, error) {
			next, err := loadConfig(cfg.File)
			settings := settingsOf(next)
			settings.Checks = func() {
				checks.set(next.Checks, logger)
				fallbacks.set(next.FallbackChecks, logger)
			}
			return settings, err
		},
		Weight: cfg.Weight.source(), Damping: cfg.Damping, Prefer: cfg.Prefer,
	}, store, plane, coordinator.NewPeers(store.Client()), logger)
	return runParts(ctx, cfg, c, store, control, logger)
}

// settingsOf is what can be read again while the agent runs.
func settingsOf(cfg config) coordinator.Settings {
	return coordinator.Settings{
		Values: cfg.Values, Services: cfg.Services, Hooks: cfg.Hooks,
		Damping: cfg.Damping, Weight: cfg.Weight.read, Prefer: cfg.Prefer,
	}
}

// reloadOnSignal has the config read again with each SIGHUP and, if that is
// wanted, each time that the file changes, until ctx ends.
func reloadOnSignal(ctx context.Context, cfg config, reload func() (coordinator.Reloaded, error), logger *slog.Logger) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	changed := make(chan struct{}, 1)
	g, ctx := errgroup.WithContext(ctx)
	if cfg.WatchConfig {
		g.Go(func() error {
			err := watchConfig(ctx, cfg.File, logger, func() {
				select {
				case changed <- struct{}{}:
				default:
				}
			})
			if err != nil { // the agent does without
				logger.Error("cannot watch the config; `earshot reload` reads it", "error", err)
			}
			return nil
		})
	}
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-hangup:
			case <-changed:
			}
			_, _ = reload() // it logs, and the status shows it
		}
	})
	return g.Wait()
}

// checker runs the checks of this node's servers.
type checker struct {
	runner  *child.Runner
	monitor *health.Monitor
	specs   map[string][]health.Spec // what the monitor has
}

func newChecker(specs map[string][]health.Spec, runner *child.Runner, logger *slog.Logger) (*checker, error) {
	all := map[string][]*health.Check{}
	for service, list := range specs {
		var err error
		if all[service], err = checksOf(service, list, runner); err != nil {
			return nil, err
		}
	}
	return &checker{runner: runner, monitor: health.NewMonitor(all, logger), specs: specs}, nil
}

func checksOf(service string, specs []health.Spec, runner *child.Runner) ([]*health.Check, error) {
	var all []*health.Check
	for _, s := range specs {
		check, problems := health.New(s, runner)
		if len(problems) > 0 { // the configuration was read by the same rules
			return nil, fmt.Errorf("check of service %s: %s: %s", service, problems[0].Key, problems[0].Text)
		}
		all = append(all, check)
	}
	return all, nil
}

// set replaces the checks of the services whose checks have changed.
func (c *checker) set(next map[string][]health.Spec, logger *slog.Logger) {
	services := maps.Clone(c.specs)
	if services == nil {
		services = map[string][]health.Spec{}
	}
	maps.Copy(services, next)
	for service := range services {
		if reflect.DeepEqual(c.specs[service], next[service]) {
			continue
		}
		all, err := checksOf(service, next[service], c.runner)
		if err != nil {
			logger.Error("the checks of a service stay as they are", "error", err)
			continue
		}
		c.monitor.Replace(service, all)
	}
	c.specs = next
}

// openPlane returns the node's data plane, found to do for its services. A
// witness has none, and needs no privilege.
func openPlane(cfg config, logger *slog.Logger) (plane coordinator.Kernel, done func(), err error) {
	if cfg.witness() {
		return coordinator.NewBystander(), func() {}, nil
	}
	alone, err := takeNamespace()
	if err != nil {
		return nil, nil, err
	}
	p, err := nft.Open(logger)
	if errors.Is(err, os.ErrPermission) {
		return nil, nil, withHint(fmt.Errorf("no privilege to change the kernel's network: %w", err),
			"run it as root, or give it CAP_NET_ADMIN and CAP_NET_RAW as docs/earshot.service does")
	}
	if err != nil {
		return nil, nil, err
	}
	services := kernelServices(cfg.Services)
	later, err := startFailure(nft.Probe(services), services)
	if err != nil {
		p.Close()
		return nil, nil, err
	}
	for _, f := range later {
		logger.Warn("cannot serve at first", "service", f.Service, "reason", f.Text(), "mend", f.Mend)
	}
	done = func() {
		p.Close()
		alone.Close()
	}
	return p, done, nil
}

// earsOf returns what the node listens to its network with. A witness needs
// not hear clients.
func earsOf(cfg config) coordinator.Ears {
	if cfg.witness() {
		return nil
	}
	return nft.NewEars()
}

// repairsOf is how a data plane counts its repairs; a witness has none.
func repairsOf(plane coordinator.Kernel) func() uint64 {
	if p, ok := plane.(*nft.Plane); ok {
		return p.Repairs
	}
	return nil
}

// runParts runs the store and the coordinator. When ctx ends they leave the
// cluster in order first, for which both have to be running.
func runParts(ctx context.Context, cfg config, c *coordinator.Coordinator, store *raftstore.Store, control net.Listener, logger *slog.Logger) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, running := errgroup.WithContext(running)
	g.Go(func() error {
		return store.Run(running, raftstore.Hooks{API: c.PeerAPI(), Admit: c.Admit})
	})
	var once sync.Once
	ready := func() {
		once.Do(func() {
			logger.Info("ready")
			notifySystemd(logger, notifyReady)
		})
	}
	g.Go(func() error { return c.Run(running, control, ready) })
	g.Go(func() error { return reloadOnSignal(running, cfg, c.Reload, logger) })
	g.Go(func() error {
		select {
		case <-running.Done():
			return nil
		case <-ctx.Done():
		}
		leaving, cancel := context.WithTimeout(running, leaveTimeout)
		defer cancel()
		c.Leave(leaving)
		stop()
		return nil
	})
	done := make(chan error, 1)
	go func() { done <- g.Wait() }()
	var err error
	select {
	case err = <-done:
	case <-running.Done():
		select {
		case err = <-done:
		case <-time.After(endTimeout):
			// A disk that hangs keeps its callers. The process ends without them.
			err = context.Cause(running)
		}
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// timingOf derives the protocol's times for this kernel.
func timingOf(cfg config) (coordinator.Timing, error) {
	jiffy, err := nft.Jiffy()
	if err != nil {
		return coordinator.Timing{}, err
	}
	timing, err := coordinator.NewTiming(cfg.Lease, jiffy, cfg.RestartLease)
	if err != nil {
		return coordinator.Timing{}, fmt.Errorf("lease: %w", err)
	}
	return timing, nil
}

// listenControl opens the control socket for the operator alone. A socket
// that a dead agent left is replaced.
func listenControl(path string) (net.Listener, error) {
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
		return nil, withHint(fmt.Errorf("%w: it answers at socket %s", errRunning, path),
			"stop it first (systemctl stop earshot), or give this one a socket and data_dir of its own")
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove stale socket: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		listener.Close()
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	return listener, nil
}
