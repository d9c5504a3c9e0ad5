package sim

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"earshot/coordinator"
	"earshot/raftstore"
)

// errGone is what a process gets that has been killed.
var errGone = errors.New("process is gone")

// process is one run of a node's agent. Whatever it does goes through a gate:
// a process that is stopped gets no further than its next step outwards, and
// one that was killed has no effect any more, though its goroutines are
// allowed to end in peace.
type process struct {
	node    *node
	started time.Time
	store   *raftstore.Store
	agent   *coordinator.Coordinator
	disk    *diskPort
	cancel  context.CancelFunc
	gone    chan struct{} // closed when it is killed or has ended
	ended   chan struct{} // closed when no goroutine of it is left

	mu     sync.Mutex
	frozen chan struct{} // closed when the process goes on
	dead   bool
	late   time.Duration                           // the next proposal is held up for so long
	holder func(raftstore.Command) <-chan struct{} // what holds up a proposal, if it does
	raft   *raftPort
	api    handler
}

// pass waits while the process is stopped, and reports whether it lives.
func (p *process) pass() bool { return p.passBy(nil) == nil }

// errLate: the caller has given up.
var errLate = errors.New("caller has given up")

// passBy is pass for a caller that gives up.
func (p *process) passBy(giveUp <-chan struct{}) error {
	for {
		p.mu.Lock()
		frozen, dead := p.frozen, p.dead
		p.mu.Unlock()
		switch {
		case dead:
			return errGone
		case frozen == nil:
			return nil
		}
		select {
		case <-frozen:
		case <-p.gone:
		case <-giveUp:
			return errLate
		}
	}
}

// freeze stops the process, unless it is stopped, and returns what lets it go
// on.
func (p *process) freeze() (thaw func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen != nil || p.dead {
		return func() {}
	}
	frozen := make(chan struct{})
	p.frozen = frozen
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.frozen = nil
		close(frozen)
	}
}

// stopped reports whether the process is stopped or gone.
func (p *process) stopped() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead || p.frozen != nil
}

// kill ends the process at once: kill -9.
func (p *process) kill() {
	p.mu.Lock()
	if p.dead {
		p.mu.Unlock()
		return
	}
	p.dead = true
	p.mu.Unlock()
	p.disk.part()
	close(p.gone)
	p.cancel()
}

// leads reports whether the process believes to lead.
func (p *process) leads() bool { return p.store.Leadership().Self }

// run is the process's main: as in cmd/earshot.
func (p *process) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return p.store.Run(ctx, raftstore.Hooks{API: p.agent.PeerAPI(), Admit: p.agent.Admit})
	})
	g.Go(func() error { return p.agent.Run(ctx, newIdleListener(), func() {}) })
	done := make(chan error, 1)
	go func() { done <- g.Wait() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(5 * time.Second): // cmd/earshot's endTimeout
	}
	p.kill()
	return <-done
}

// idleListener never has a connection.
type idleListener struct {
	once   *sync.Once
	closed chan struct{}
}

func newIdleListener() idleListener { return idleListener{&sync.Once{}, make(chan struct{})} }

func (l idleListener) Accept() (net.Conn, error) {
	<-l.closed
	return nil, net.ErrClosed
}

func (l idleListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l idleListener) Addr() net.Addr { return &net.UnixAddr{} }

// holdUp waits while one goroutine that is about to propose is held up, as by a
// log that nobody reads. The others go on.
func (p *process) holdUp(c raftstore.Command) {
	p.mu.Lock()
	late, held := p.late, p.holder
	p.late = 0
	p.mu.Unlock()
	if late > 0 {
		p.sleep(late)
	}
	if held == nil {
		return
	}
	if until := held(c); until != nil {
		select {
		case <-until:
		case <-p.gone:
		}
	}
}

// alive reports whether the process was not killed.
func (p *process) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.dead
}

// sleep waits, and reports whether the process lives then.
func (p *process) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.gone:
		return false
	}
}

// gatedLog is the log of Raft. Raft says what it is about to do, such as to
// step down, before it does it: a process that is stopped does not get there.
type gatedLog struct {
	slog.Handler
	process *process
}

// Enabled implements slog.Handler; it is asked first.
func (g gatedLog) Enabled(ctx context.Context, at slog.Level) bool {
	g.process.pass()
	return g.Handler.Enabled(ctx, at)
}
