package sim

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"earshot/coordinator"
	"earshot/hashmode"
	"earshot/raftstore"
)

// node is one machine.
type node struct {
	world  *world
	i      int
	name   string
	addr   string
	kernel *kernel
	disk   *disk
	slow   float64 // its clock loses so much
	// witness: it votes and never answers.
	witness bool

	mu   sync.Mutex
	proc *process
	down bool // and nobody starts it
}

func newNode(w *world, i int) *node {
	n := &node{
		world: w, i: i, name: fmt.Sprintf("n%d", i+1), addr: fmt.Sprintf("10.0.0.%d:7440", i+1),
		disk: newDisk(w), slow: w.rng.float() * 0.01,
	}
	n.kernel = &kernel{node: n}
	return n
}

// slowness is how much longer than d the node's clock takes for d.
func (n *node) slowness(d time.Duration) time.Duration { return time.Duration(float64(d) * n.slow) }

// running is the node's process, or nil.
func (n *node) running() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc == nil || !n.proc.alive() {
		return nil
	}
	return n.proc
}

// services are those of every node's config.
func services(w *world) []raftstore.Definition {
	one := func(name, address string, buckets int) raftstore.Definition {
		return raftstore.Definition{
			Name: name, Address: netip.MustParsePrefix(address), Interface: "eth1", Hash: hashmode.SourceIP,
			Buckets: buckets, MAC: "01:00:5e:00:02:14", MACMode: "multicast", Drain: w.drain,
			OnFail: "drain", QuorumLoss: "fence",
		}
	}
	return []raftstore.Definition{one("web", "192.0.2.20/24", webBuckets), one("dns", "192.0.2.21/24", dnsBuckets)}
}

// start starts the agent, unless it runs.
func (n *node) start() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = false
	if n.proc != nil && n.proc.alive() || n.world.over() {
		return
	}
	w := n.world
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{node: n, started: time.Now(), cancel: cancel, gone: make(chan struct{}), ended: make(chan struct{})}
	p.disk = &diskPort{process: p, disk: n.disk}
	var err error
	p.store, err = raftstore.Assemble(raftstore.Options{
		Name: n.name, Listen: n.addr, Peers: w.peers(), Weight: 1, Witness: n.witness, Lease: w.timing.Lease,
		Log: slog.New(gatedLog{w.history.logOf(n, w.logLevel+4).Handler(), p}),
	}, raftstore.Parts{
		Disk: p.disk, Snapshots: snapshots{p.disk}, Client: apiPort{p},
		Network: func() raftstore.Network { return newRaftPort(p) },
		Serve: func(h http.Handler) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.api = h
		},
	})
	if err != nil {
		w.judge.fail("start of %s: %v", n.name, err)
		cancel()
		return
	}
	cfg := coordinator.Config{Node: n.name, Version: "sim", Timing: w.timing, Witness: n.witness, Services: services(w)}
	// Short, so that every fault meets nodes that are held, and the cluster
	// comes to rest between two.
	cfg.Damping = coordinator.Damping{Mature: w.timing.Lease / 4, Round: w.timing.Lease, MovesPerRound: 5}
	kernel := coordinator.Kernel(kernelPort{p, n.kernel})
	if n.witness { // as cmd/earshot has it
		cfg.Services, kernel = nil, coordinator.NewBystander()
	}
	p.agent = coordinator.New(cfg, storePort{p, p.store}, kernel, coordinator.NewPeers(p.store.Client()), w.history.logOf(n, w.logLevel))
	n.proc = p
	w.history.note(n, "started")
	w.processes.Go(func() { n.supervise(ctx, p) })
}

// supervise runs a process, and starts another when it ends by itself, as
// systemd does.
func (n *node) supervise(ctx context.Context, p *process) {
	err := p.run(ctx)
	p.kill()
	close(p.ended)
	if !n.wants(p) {
		return
	}
	n.world.history.note(n, "ended: %v", err)
	n.world.after(time.Second, func() {
		if n.wants(p) {
			n.start()
		}
	})
}

// wants reports whether a process is to be started again when it ends.
func (n *node) wants(p *process) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc == p && !n.down
}

// kill ends the agent at once, and keeps it from being started.
func (n *node) kill() {
	n.mu.Lock()
	n.down = true
	p := n.proc
	n.mu.Unlock()
	if p != nil {
		p.kill()
	}
}

// stop ends the agent in order: it asks for a restart lease.
func (n *node) stop() {
	n.mu.Lock()
	n.down = true
	p := n.proc
	n.mu.Unlock()
	if p == nil || !p.alive() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	p.agent.Leave(ctx)
	p.cancel()
	<-p.ended
}

// wipe empties the disk of a node that does not run.
func (n *node) wipe() {
	n.disk.set(func(d *disk) { d.on = newContent() })
}
