package health

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Monitor runs the checks of services and keeps a verdict of each.
type Monitor struct {
	services map[string][]*Check
	log      *slog.Logger

	mu       sync.Mutex
	verdicts map[string]Verdict // by service; those without checks have none
}

// NewMonitor returns a monitor of the services' checks. Nothing runs before Run.
func NewMonitor(services map[string][]*Check, log *slog.Logger) *Monitor {
	m := &Monitor{services: map[string][]*Check{}, log: log, verdicts: map[string]Verdict{}}
	for name, checks := range services {
		if len(checks) > 0 {
			m.services[name], m.verdicts[name] = checks, Verdict{}
		}
	}
	return m
}

// Verdicts returns a copy of what is known, by service.
func (m *Monitor) Verdicts() map[string]Verdict {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.verdicts)
}

// Run checks until ctx ends. It calls changed, from several goroutines, after
// each change of a service's state.
func (m *Monitor) Run(ctx context.Context, changed func()) error {
	var g errgroup.Group
	for name, checks := range m.services {
		s := &service{name: name, verdicts: make([]Verdict, len(checks))}
		for i, check := range checks {
			g.Go(func() error {
				m.watch(ctx, check, func(v Verdict) {
					if m.enter(s, i, v) {
						changed()
					}
				})
				return nil
			})
		}
	}
	return g.Wait()
}

// service is one service's checks while they run.
type service struct {
	name string

	// Under the monitor's lock.
	verdicts []Verdict
}

// watch asks at even intervals, which do not shift with the time that an
// answer takes. Attempts that would overlap are left out.
func (m *Monitor) watch(ctx context.Context, check *Check, tell func(Verdict)) {
	ticker := time.NewTicker(check.Interval)
	defer ticker.Stop()
	asked := attempts{check: check}
	began := time.Now()
	var v Verdict
	for {
		answer := asked.once(ctx)
		if ctx.Err() != nil {
			return // the answer may be of our own ending
		}
		if answer != nil {
			m.log.Debug("check failed", "check", check.Name, "error", answer)
		}
		v = v.Next(answer, time.Since(began), check.Rules)
		tell(v)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// enter notes one check's verdict and reports whether the service's state is
// another than before.
func (m *Monitor) enter(s *service, i int, v Verdict) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.verdicts[i] = v
	before, now := m.verdicts[s.name], all(s.verdicts)
	if now.State == before.State {
		// Of several checks that fail, the first to do so stays the reason.
		return false
	}
	m.verdicts[s.name] = now
	switch now.State {
	case Ill:
		m.log.Warn("server is ill", "service", s.name, "reason", now.Reason)
	case Well:
		m.log.Info("server is well", "service", s.name)
	}
	return true
}
