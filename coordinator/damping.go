package coordinator

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"earshot/hashmode"
	"earshot/raftstore"
)

// Damping is how much patience the plan has. The leader's own counts; zero
// values are no patience at all.
type Damping struct {
	// Mature is how long a node that came, or came back, must have followed
	// without a break before it is given buckets that another can have. Each
	// loss that is not forgotten yet doubles it.
	Mature time.Duration
	// Round is the time in which at most MovesPerRound buckets of a service are
	// moved to make the shares even, and none of them twice.
	Round time.Duration
	// MovesPerRound is that number; zero is no bound.
	MovesPerRound int
}

// patience is the Damping that counts now: a config that is read again may
// change it at any time.
type patience struct{ now atomic.Pointer[Damping] }

func (p *patience) set(d Damping) { p.now.Store(&d) }

// get is what was set last; none at all if nothing was.
func (p *patience) get() Damping {
	if d := p.now.Load(); d != nil {
		return *d
	}
	return Damping{}
}

// longestHold bounds how often a hold is doubled: 64 times the first.
const longestHold = 6

// forgiveAfter is how many holds of good conduct it takes to have one loss
// forgotten.
const forgiveAfter = 10

// hold is how long a node is held after so many losses.
func (d Damping) hold(losses int) time.Duration {
	return d.Mature << min(max(losses-1, 0), longestHold)
}

// holdOfService is the same for a service that the node could not serve: none
// without a loss. With nobody else to serve it, the first is for nothing.
func (d Damping) holdOfService(losses int, alone bool) time.Duration {
	if alone {
		losses--
	}
	if losses <= 0 {
		return 0
	}
	return d.hold(losses)
}

// forgiveness is how long a node must have done well for one loss to be
// forgotten.
func (d Damping) forgiveness(losses int) time.Duration { return forgiveAfter * d.hold(losses) }

// leeway is what a plan may do beside giving an owner to buckets that have
// none: that is never bounded and never waits.
type leeway struct {
	// even: buckets that have an owner may be moved.
	even bool
	// most bounds how many of each service; zero is no bound.
	most int
	// spent has, by service, those that were moved lately. They count, and stay.
	spent map[string]hashmode.Set
	// until is when there may be more leeway than now; zero for never.
	until time.Time
}

// orphansAlone is the leeway of a plan that evens nothing out.
func orphansAlone() leeway { return leeway{} }

// left is how many buckets of the service may still be moved; below zero
// without a bound.
func (l leeway) left(service string) int {
	switch {
	case !l.even:
		return 0
	case l.most == 0:
		return -1
	}
	return max(l.most-l.spent[service].Len(), 0)
}

// pace remembers the moves of the last round. In any time of that length, a
// service has at most so many of them, and a bucket one.
type pace struct {
	Damping
	moved []evened
}

// evened are buckets of a service that were moved to make shares even.
type evened struct {
	at      time.Time
	service string
	buckets hashmode.Set
}

// leeway is what is left of the round.
func (p *pace) leeway(now time.Time) leeway {
	p.moved = slices.DeleteFunc(p.moved, func(e evened) bool { return now.Sub(e.at) > p.Round })
	l := leeway{even: true, most: p.MovesPerRound, spent: map[string]hashmode.Set{}}
	for _, e := range p.moved {
		l.spent[e.service] = l.spent[e.service].Union(e.buckets)
	}
	if len(p.moved) > 0 {
		l.until = p.moved[0].at.Add(p.Round)
	}
	return l
}

// spend notes moves that were, or may have been, committed. Those of buckets
// that had no owner do not count.
func (p *pace) spend(now time.Time, st *raftstore.State, moves []raftstore.Move) {
	if p.Round == 0 {
		return
	}
	sets := map[string]hashmode.Set{}
	for _, m := range moves {
		v := st.Services[m.Service]
		set, err := hashmode.ParseSet(m.Buckets, len(v.Map))
		if err != nil {
			continue // the plan wrote it itself
		}
		for b := range set.All() {
			if owner, known := st.Nodes[v.Map[b].Owner]; known && owner.Serves(m.Service) {
				s := sets[m.Service]
				s.Add(b)
				sets[m.Service] = s
			}
		}
	}
	for _, service := range slices.Sorted(maps.Keys(sets)) {
		p.moved = append(p.moved, evened{at: now, service: service, buckets: sets[service]})
	}
}
