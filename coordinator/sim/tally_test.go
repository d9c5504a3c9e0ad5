package sim

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"
)

// tally sums up the runs of a campaign.
type tally struct {
	mu    sync.Mutex
	lines map[time.Duration]*tallyLine
	worst map[string]worst
}

// tallyLine is all runs with one lease.
type tallyLine struct {
	runs, faults, acks int
	simulated, took    time.Duration
}

// worst is the longest gap after one kind of fault, in leases.
type worst struct {
	leases float64
	of     setting
}

func (t *tally) add(o outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.lines[o.lease]
	if l == nil {
		l = &tallyLine{}
		t.lines[o.lease] = l
	}
	l.runs++
	l.faults += o.faults
	l.acks += o.acks
	l.simulated += o.simulated
	l.took += o.took
	for name, gap := range o.worst {
		if leases := float64(gap) / float64(o.lease); leases > t.worst[name].leases {
			t.worst[name] = worst{leases, o.setting}
		}
	}
}

// log writes the sums.
func (t *tally) log(to *testing.T) {
	all := tallyLine{}
	for _, lease := range slices.Sorted(maps.Keys(t.lines)) {
		l := t.lines[lease]
		to.Logf("lease %6v: %s", lease, l)
		all.runs += l.runs
		all.faults += l.faults
		all.acks += l.acks
		all.simulated += l.simulated
		all.took += l.took
	}
	to.Logf("all:          %s", &all)
	names := slices.SortedFunc(maps.Keys(t.worst), func(a, b string) int {
		return cmp.Compare(t.worst[b].leases, t.worst[a].leases)
	})
	for _, name := range names {
		w := t.worst[name]
		to.Logf("longest without an opener, %-20s %.2f L (lease %v, %d nodes, seed %d)", name+":", w.leases, w.of.lease, w.of.nodes, w.of.seed)
	}
}

func (l *tallyLine) String() string {
	return fmt.Sprintf("%3d runs, %6.2f simulated hours, %5d faults, %5d acknowledged, %v of processor time",
		l.runs, l.simulated.Hours(), l.faults, l.acks, l.took.Round(100*time.Millisecond))
}
