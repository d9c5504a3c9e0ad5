package health

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"
)

// Monitor runs the checks of services and keeps a verdict of each.
type Monitor struct {
	services map[string][]*Check
	log      *slog.Logger

	mu       sync.Mutex
	verdicts map[string]Verdict  // by service; those without checks have none
	running  map[string]*service // nil unless Run runs
	begin    func(name string, checks []*Check)
	changed  func()
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
	var watching sync.WaitGroup
	m.mu.Lock()
	m.running, m.changed = map[string]*service{}, changed
	m.begin = func(name string, checks []*Check) {
		each, stop := context.WithCancel(ctx)
		s := &service{name: name, stop: stop, verdicts: make([]Verdict, len(checks))}
		m.running[name] = s
		for i, check := range checks {
			watching.Go(func() {
				m.watch(each, check, func(v Verdict) {
					if m.enter(s, i, v) {
						changed()
					}
				})
			})
		}
	}
	for name, checks := range m.services {
		m.begin(name, checks)
	}
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	for _, s := range m.running {
		s.stop()
	}
	m.running = nil
	m.mu.Unlock()
	watching.Wait()
	return nil
}

// Replace gives a service other checks, or none. It is unknown again until
// their first verdict.
func (m *Monitor) Replace(name string, checks []*Check) {
	m.mu.Lock()
	delete(m.services, name)
	delete(m.verdicts, name)
	if len(checks) > 0 {
		m.services[name], m.verdicts[name] = checks, Verdict{}
	}
	runs := m.running != nil
	if runs {
		if s := m.running[name]; s != nil {
			s.stop()
			delete(m.running, name)
		}
		if len(checks) > 0 {
			m.begin(name, checks)
		}
	}
	m.mu.Unlock()
	if runs {
		m.changed()
	}
}

// service is one service's checks while they run.
type service struct {
	name string
	stop func()

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
	if m.running[s.name] != s {
		return false // it has other checks by now
	}
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
