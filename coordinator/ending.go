package coordinator

import (
	"sync"
	"time"

	"earshot/hashmode"
	"earshot/nft"
	"earshot/raftstore"
)

// endings are the drains of this node that are to be over. The new owner opens
// the bucket to every packet as soon as it hears of the end. So this node
// closes the bucket first, and tells the end behind a barrier: else both would
// answer what goes on in it, for as long as the news takes.
type endings struct {
	// added is signalled when there is something to close.
	added chan struct{}

	mu  sync.Mutex
	all map[string]map[hashmode.Bucket]ending
}

// ending is the end of one bucket's drain.
type ending struct {
	since uint64    // the move that began the drain
	seen  uint64    // what the kernel had released when it was looked at
	due   time.Time // when it can be told
	stage endStage
}

// endStage is how far an end has come.
type endStage int

const (
	endDecided endStage = iota // the kernel lets its flows through still
	endClosed                  // it does not; packets may be under way
	endBehind                  // a barrier has passed
	endReset                   // connections are reset, if they are to be: it is told when it is due
	endTold                    // it is committed
)

func newEndings() *endings {
	return &endings{added: make(chan struct{}, 1), all: map[string]map[hashmode.Bucket]ending{}}
}

// add decides that a bucket's drain ends, which is not to be told before it is due.
func (e *endings) add(v raftstore.Service, b hashmode.Bucket, seen uint64, due time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.all[v.Name] == nil {
		e.all[v.Name] = map[hashmode.Bucket]ending{}
	}
	if since := v.Map[b].Since; e.all[v.Name][b].since != since {
		e.all[v.Name][b] = ending{since: since, seen: seen, due: due}
		signal(e.added)
	}
}

// of returns the buckets whose drain is to be over, and forgets those that have
// no drain any more, or another one. Lost are those of them that the node has a
// part in again, or still: their end may have been told, and others may have
// taken up their flows.
func (e *endings) of(st *raftstore.State, node string) (sets, lost map[string]hashmode.Set) {
	e.mu.Lock()
	defer e.mu.Unlock()
	sets, lost = map[string]hashmode.Set{}, map[string]hashmode.Set{}
	for name, buckets := range e.all {
		v, known := st.Services[name]
		set, again := hashmode.Set{}, hashmode.Set{}
		for b, end := range buckets {
			role := foreign
			if known && int(b) < len(v.Map) {
				role = roleOf(v.Map[b], node, nil)
			}
			switch {
			case role == drain && v.Map[b].Since == end.since:
				set.Add(b)
				continue
			case role != foreign && end.stage >= endClosed && v.Remapped <= end.since: // and so the same flows
				again.Add(b)
			}
			delete(buckets, b)
		}
		if !again.Empty() {
			lost[name] = again
		}
		if len(buckets) == 0 {
			delete(e.all, name)
			continue
		}
		sets[name] = set
	}
	return sets, lost
}

// raise brings ends in the buckets from one stage to the next, and reports
// whether there were any.
func (e *endings) raise(sets map[string]hashmode.Set, from, to endStage) (any bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, set := range sets {
		for b := range set.All() {
			if end, known := e.all[name][b]; known && end.stage == from {
				end.stage, any = to, true
				e.all[name][b] = end
			}
		}
	}
	return any
}

// at returns the buckets whose end has come to a stage, by service.
func (e *endings) at(stage endStage) map[string]hashmode.Set {
	e.mu.Lock()
	defer e.mu.Unlock()
	sets := map[string]hashmode.Set{}
	for name, buckets := range e.all {
		set := hashmode.Set{}
		for b, end := range buckets {
			if end.stage == stage {
				set.Add(b)
			}
		}
		if !set.Empty() {
			sets[name] = set
		}
	}
	return sets
}

// toTell returns the buckets whose end is to be told now, by service, and when
// the next one is due; zero for none.
func (e *endings) toTell(now time.Time) (sets map[string]hashmode.Set, next time.Time) {
	sets = e.at(endReset)
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, set := range sets {
		ready := hashmode.Set{}
		for b := range set.All() {
			switch due := e.all[name][b].due; {
			case !due.After(now):
				ready.Add(b)
			case next.IsZero() || due.Before(next):
				next = due
			}
		}
		if sets[name] = ready; ready.Empty() {
			delete(sets, name)
		}
	}
	return sets, next
}

// bySeen sorts buckets of a service by what the kernel had released when they
// were looked at: each end is true of the moves until then alone.
func (e *endings) bySeen(service string, buckets hashmode.Set) map[uint64]hashmode.Set {
	e.mu.Lock()
	defer e.mu.Unlock()
	sets := map[uint64]hashmode.Set{}
	for b := range buckets.All() {
		if end, known := e.all[service][b]; known {
			set := sets[end.seen]
			set.Add(b)
			sets[end.seen] = set
		}
	}
	return sets
}

// without is the ruleset that drains those buckets no more.
func without(rs nft.Ruleset, ended map[string]hashmode.Set) nft.Ruleset {
	services := make([]nft.Service, len(rs.Services))
	copy(services, rs.Services)
	for i, s := range services {
		services[i].Drain = s.Drain.Minus(ended[s.Name])
	}
	rs.Services = services
	return rs
}
