package coordinator

import (
	"maps"
	"sync"
	"time"

	"earshot/coordinator/health"
)

// fitness gathers why this node cannot serve its services: what the wire says
// (a node can hear the cluster and be deaf on a service's segment), and what
// the checks say of its servers.
type fitness struct {
	node  string
	store Store
	// health judges the node's servers, and fallback whether they can answer
	// when nobody serves; nil: nobody does.
	health, fallback Health
	// onChange is called after a change, and not more often than every pace.
	onChange func()
	pace     time.Duration

	mu   sync.Mutex
	deaf map[string]string // why, by service; never written to
	told time.Time
	// answered: the kernel was answering when this process began, which is
	// known since begun.
	begun, answered bool
}

// unchecked is why a server that nobody knows yet is given nothing.
const unchecked = "its check has not passed yet"

// begin says whether the kernel was answering when this process began.
func (f *fitness) begin(answered bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.begun, f.answered = true, answered
}

// wire takes in on which services this node is deaf, and why, and returns what
// it was told before.
func (f *fitness) wire(deaf map[string]string) (before map[string]string) {
	f.mu.Lock()
	before, f.deaf = f.deaf, deaf
	f.mu.Unlock()
	if !maps.Equal(before, deaf) {
		f.changed(time.Now())
	}
	return before
}

// changed has the leader told at once, unless that has just been done: then
// the next renewal tells it.
func (f *fitness) changed(now time.Time) {
	f.mu.Lock()
	soon := now.Sub(f.told) < f.pace
	if !soon {
		f.told = now
	}
	f.mu.Unlock()
	if !soon {
		f.onChange()
	}
}

// isDeaf reports that no packet of the service can reach this node.
func (f *fitness) isDeaf(service string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, deaf := f.deaf[service]
	return deaf
}

// unfit says, by service, why this node cannot serve it. Of a server that is
// not judged yet the cluster's view stays as it is if this node answers: an
// agent that restarts gives nothing away. Else the check has to pass first.
//
// spare has those services that the node can answer for all the same, true
// where it passes the check for the case that nobody serves.
func (f *fitness) unfit() (all map[string]string, spare map[string]bool) {
	f.mu.Lock()
	all, keeps := maps.Clone(f.deaf), !f.begun || f.answered
	f.mu.Unlock()
	if all == nil {
		all = map[string]string{}
	}
	if f.health == nil {
		return all, nil
	}
	var passes map[string]health.Verdict
	if f.fallback != nil {
		passes = f.fallback.Verdicts()
	}
	spare = map[string]bool{}
	before := f.store.State().Nodes[f.node].Unfit
	for service, v := range f.health.Verdicts() {
		why, ill := v.Reason, v.State == health.Ill
		if v.State == health.Unknown {
			if why, ill = before[service]; !keeps {
				why, ill = unchecked, true
			}
		}
		if _, deaf := all[service]; ill && !deaf {
			all[service], spare[service] = why, passes[service].State == health.Well
		}
	}
	return all, spare
}
