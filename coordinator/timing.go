package coordinator

import (
	"errors"
	"fmt"
	"time"

	"earshot/raftstore"
)

// The longest and shortest lease that can be configured.
const (
	MinLease = 60 * time.Millisecond
	MaxLease = 10 * time.Second
)

// gatherings is how many rounds of requests would fit into a lease.
const gatherings = 60

// ErrLease is wrapped by the error for a lease that cannot be kept.
var ErrLease = errors.New("impossible lease")

// Timing is every time of the protocol; all follow from the lease.
type Timing struct {
	// Lease is how long a node may answer without hearing from the leader: L.
	Lease time.Duration
	// Respite is how long a leader, from when it can grant leases, waits at the
	// least for the one before. An election may take so long that all leases are
	// over: if it lives, it is to be heard (P6).
	Respite time.Duration
	// Margin is what clocks and timers may differ by over a lease: M. A node
	// counts L - M from its asking, the leader L + M from its answer (P1).
	Margin time.Duration
	// Renew is the time between two renewals.
	Renew time.Duration
	// Gather is how long the leader lets requests collect before it asks the
	// voters for all of them at once (P2), at the most.
	Gather time.Duration
	// Tick is the time between two proofs that the leader can commit (P10).
	Tick time.Duration
	// Settle is how long a node asks about each flow of a bucket that was
	// released to it.
	Settle time.Duration
	// Rest is the lease that a stopping node asks for.
	Rest time.Duration
}

// NewTiming derives all times from the lease and from the kernel's tick, to
// which its timers round up.
func NewTiming(lease, jiffy, rest time.Duration) (Timing, error) {
	if lease < MinLease || lease > MaxLease {
		return Timing{}, fmt.Errorf("%w: %v (use %v to %v)", ErrLease, lease, MinLease, MaxLease)
	}
	margin := max(lease/10, 2*jiffy+time.Millisecond)
	if lease < 6*margin {
		return Timing{}, fmt.Errorf("%w: %v is too short for this kernel's timers, which tick every %v (use %v or more)",
			ErrLease, lease, jiffy, 6*margin)
	}
	return Timing{
		Lease:   lease,
		Respite: lease / 2,
		Margin:  margin,
		Renew:   lease / 6,
		Gather:  lease / gatherings,
		Tick:    2 * lease,
		Settle:  lease,
		Rest:    rest,
	}, nil
}

// tenancy is how long a node may answer, from its asking for a lease.
func (t Timing) tenancy(lease time.Duration) time.Duration { return lease - t.marginOf(lease) }

// marginOf is the margin of a lease that may be much longer than L, as that of
// a restart: clocks drift by up to a hundredth of it.
func (t Timing) marginOf(lease time.Duration) time.Duration { return max(t.Margin, lease/50) }

// asked is for how long after a release new owners may ask whose a SYN is: each
// for its own lease, and some for the way. A dead one asks nobody.
func (t Timing) asked(st *raftstore.State) time.Duration {
	longest := t.Settle
	if longest == 0 {
		return 0 // nothing can be asked
	}
	for _, n := range st.Nodes {
		if !n.Failed {
			longest = max(longest, n.Lease)
		}
	}
	return longest * 3 / 2
}

// shortest is the shortest lease of a living node, which is this one's if all
// are configured alike. What a leader does for all is to be in time for that.
func (t Timing) shortest(st *raftstore.State) time.Duration {
	lease := t.Lease
	for _, n := range st.Nodes {
		if n.Lease > 0 && !n.Failed {
			lease = min(lease, n.Lease)
		}
	}
	return lease
}

// gone is how long a voter may be dead before its vote moves: no restart, and
// no repair that somebody waits for, takes as long.
func (t Timing) gone() time.Duration { return max(200*t.Lease, time.Minute) }

// patience is how long the leader waits, from its grant of a lease, before it
// gives the node's buckets away.
func (t Timing) patience(lease time.Duration) time.Duration { return lease + t.marginOf(lease) }
