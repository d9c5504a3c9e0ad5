package coordinator

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"earshot/raftstore"
)

// The reasons for which a leader grants no lease.
var (
	ErrNotLeader = errors.New("not the leader")
	ErrNotReady  = errors.New("the leader does not know its own log yet")
	ErrStranger  = errors.New("not a member of the cluster")
	ErrJudged    = errors.New("judged dead: buckets are being given away")
	ErrBehind    = errors.New("the node does not follow the cluster's state")
	ErrUnreached = errors.New("the node does not get, or cannot take, the leases that it is granted")
	ErrStuck     = errors.New("the leader cannot commit")
	ErrOvertaken = errors.New("a later process of the node has asked already")
	ErrUntold    = errors.New("the length of the node's lease is not in the cluster's state yet")
)

// ledger is a leader's account of the leases of one term. Granting a lease
// and judging a node dead exclude each other under its lock (rule P4).
//
// Times are passed in, and are this node's own; they never leave it.
type ledger struct {
	timing  Timing
	damping patience

	mu     sync.Mutex
	term   uint64 // 0: not leading
	ready  bool   // an entry of the term is applied (rule P3)
	looked bool   // all nodes were looked at: who is new now has joined
	stuck  bool   // a proof of committing is overdue (rule P10)
	// Leases of earlier terms were granted before elected, and those of the
	// leader before, former, to itself not after answered. Nobody is judged
	// before respite (rule P6).
	elected, answered, respite time.Time
	former                     string
	tenants                    map[string]*tenancy
}

// tenancy is what the leader knows of one node's lease.
type tenancy struct {
	serverID string
	until    time.Time // the node may hold a lease until then
	judged   bool
	// superseded: judged for another server that is to have the name.
	superseded bool
	// doubt is the epoch from which a judgement was planned whose command may
	// still come through. In another epoch it never will. Zero: no such doubt.
	doubt uint64
	held  uint64
	// The node has to hold the map of index due, which was applied here at
	// dueSince (rule P5).
	due      uint64
	dueSince time.Time
	// The node asks for a lease though it says, since silentSince and without
	// a break, that it has none.
	silentSince time.Time
	heard       time.Time
	process     int64
	number      uint64 // of its newest renewal
	resting     bool   // the node's kernel may hold a restart lease still
	lease       time.Duration
	version     string
	problems    []string
	unfit       map[string]string
	spare       map[string]bool
	entered     time.Time // when its fitness was last given to be committed
	profile     *profile
	conduct     conduct
	queue       float64
}

// end closes the account: nothing is granted or judged.
func (l *ledger) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.term, l.ready = 0, false
}

// setReady says that an entry of the term has been applied.
func (l *ledger) setReady(term uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ready = l.ready || l.term == term
}

// setStuck says whether the leader fails to commit.
func (l *ledger) setStuck(stuck bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stuck = stuck
}

// grant enters a lease for the asking node and returns its bound, which last
// names at that moment: the newest command in the leader's log (rule P3). The
// caller has heard from a quorum since the request came in (rule P2). With
// rest, the node is restarting and is given that much time. The state is looked
// at under the lock: one from before a rest was entered would cut that short.
func (l *ledger) grant(now time.Time, term uint64, state func() *raftstore.State, r renewal, rest time.Duration, last func() uint64) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.term == 0 || l.term != term:
		return 0, ErrNotLeader
	case !l.ready:
		return 0, ErrNotReady
	case l.stuck:
		return 0, ErrStuck
	}
	st := state()
	n, known := st.Nodes[r.Node]
	if !known || n.ServerID != r.ServerID {
		return 0, fmt.Errorf("%w: %s with id %s", ErrStranger, r.Node, r.ServerID)
	}
	t := l.tenant(now, n)
	switch {
	case t.judged:
		return 0, ErrJudged
	case r.Lease > 0 && r.Process < t.process: // older versions number by the clock alone
		return 0, ErrOvertaken
	}
	lease := l.leaseOf(n)
	t.hear(now, r, st.Index, lease)
	if err := l.known(n, r); err != nil {
		return 0, err
	}
	if now.Sub(t.dueSince) > lease {
		return 0, fmt.Errorf("%w: it holds map %d, %d is due", ErrBehind, t.held, t.due)
	}
	until := now.Add(l.timing.patience(max(rest, lease)))
	// A restarting node reads its log without a lease, behind a longer one: it is
	// to be judged when that is over, and no sooner by a refusal. One that is judged
	// dead may have leases: it opens nothing by them, and is to show that they
	// reach it.
	behind := !n.Follows() && !until.After(t.until)
	if t.silent() && now.Sub(t.silentSince) > lease && !behind && !n.Failed {
		return 0, ErrUnreached
	}
	if until.After(t.until) || awake(n, r.Process, r.Resting) {
		t.until = until
	}
	return last(), nil
}

// tenant returns the node's entry, a new one for a new incarnation.
func (l *ledger) tenant(now time.Time, n raftstore.Node) *tenancy {
	t := l.tenants[n.Name]
	if t == nil || t.serverID != n.ServerID {
		t = &tenancy{serverID: n.ServerID}
		if n.Rest > 0 {
			// An earlier leader granted it, before this one was elected.
			t.until = latest(l.respite, l.elected.Add(l.patienceFor(n))).Add(l.timing.patience(n.Rest))
		} else if l.looked {
			// It has just joined, and has a lease's time to be heard.
			t.until = now.Add(l.patienceFor(n))
		}
		l.tenants[n.Name] = t
	}
	return t
}

// hear notes what the node says of itself. applied is the newest index that
// is applied here.
func (t *tenancy) hear(now time.Time, r renewal, applied uint64, lease time.Duration) {
	switch {
	case !r.Silent:
		t.silentSince = time.Time{}
	case !t.silent() || now.Sub(t.heard) > lease:
		t.silentSince = now
	}
	t.heard = now
	t.conduct.hear(now, r, t.process, t.until)
	t.held = max(t.held, r.Held)
	if r.Process != t.process || r.Number >= t.number { // else it was overtaken
		t.version, t.problems, t.unfit, t.spare = r.Version, r.Problems, r.Unfit, r.Spare
		t.profile, t.queue = r.Profile, r.Queue
		t.number = r.Number
	}
	t.process, t.resting, t.lease = r.Process, r.Resting, r.Lease
	if t.held >= t.due || t.dueSince.IsZero() {
		t.due, t.dueSince = applied, now
	}
}

// silent reports whether the node says that it has no lease.
func (t *tenancy) silent() bool { return !t.silentSince.IsZero() }

// awake reports whether a process of the node says that no restart lease is
// left in its kernel. The one that asked for it cannot know.
func awake(n raftstore.Node, process int64, resting bool) bool {
	return process > n.RestBy && !resting
}

// judge returns the nodes that have been silent for too long. From then on
// they are granted nothing until pardon is called for them.
func (l *ledger) judge(now time.Time, st *raftstore.State) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term == 0 || !l.ready {
		return nil
	}
	var dead []string
	for _, name := range st.NodeNames() {
		n := st.Nodes[name]
		t := l.tenant(now, n)
		t.clear(st.Epoch)
		if !n.Failed && !t.judged && now.After(t.until) && now.After(l.graceOf(n)) {
			t.judged = true
			dead = append(dead, name)
		}
	}
	l.looked = true
	return dead
}

// due is when the next node is to be judged if it stays silent. What was due
// before has been tried.
func (l *ledger) due(now time.Time, st *raftstore.State) (at time.Time, any bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term == 0 || !l.ready {
		return at, false
	}
	for name, n := range st.Nodes {
		t := l.tenants[name]
		if t == nil || t.judged || n.Failed {
			continue
		}
		if until := latest(t.until, l.graceOf(n)); until.After(now) && (!any || until.Before(at)) {
			at, any = until, true
		}
	}
	return at, any
}

// pardon ends a judgement: its command is applied, or certainly never will be.
func (l *ledger) pardon(term uint64, node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.tenants[node]; l.term == term && t != nil {
		t.judged, t.superseded, t.doubt = false, false, 0
	}
}

// waver says that a judgement stands until the state has another epoch than
// the one that its command was planned from: that may still come through.
func (l *ledger) waver(term uint64, node string, epoch uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.tenants[node]; l.term == term && t != nil {
		t.doubt = epoch
	}
}

// returned lists failed nodes that were heard in this term, hold the map that
// took their buckets, and have got a lease.
func (l *ledger) returned(now time.Time, st *raftstore.State) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var back []string
	for name, t := range l.tenants {
		n, ok := st.Nodes[name]
		if ok && n.Failed && n.ServerID == t.serverID && !t.judged && !t.silent() && now.Before(t.until) && t.held >= n.Changed {
			back = append(back, name)
		}
	}
	return back
}

// rested lists nodes that hold no restart lease any more though the state
// says that they may.
func (l *ledger) rested(st *raftstore.State) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var done []string
	for name, t := range l.tenants {
		n, ok := st.Nodes[name]
		if ok && n.Rest > 0 && n.ServerID == t.serverID && awake(n, t.process, t.resting) {
			done = append(done, name)
		}
	}
	return done
}

// fitness returns a living node that says of itself that it can serve other
// services than the state has it: the one whose turn it is. A node has one
// turn in a lease, so that those which change their mind all the time keep the
// leader from nothing.
func (l *ledger) fitness(now time.Time, st *raftstore.State) (f raftstore.Fitness, found bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var next *tenancy
	for _, name := range slices.Sorted(maps.Keys(l.tenants)) {
		t := l.tenants[name]
		n, ok := st.Nodes[name]
		unfit, spare := t.conduct.unfit(now, st, n, t.unfit, t.spare, l.damping.get())
		same := maps.Equal(n.Unfit, unfit) && maps.Equal(n.Spare, spare)
		if !ok || n.ServerID != t.serverID || !now.Before(t.until) || t.process == 0 || same {
			continue
		}
		if now.Sub(t.entered) >= l.timing.Lease && (next == nil || t.entered.Before(next.entered)) {
			next, f = t, raftstore.Fitness{Node: name, Unfit: unfit, Spare: spare}
		}
	}
	if next != nil {
		next.entered = now
	}
	return f, next != nil
}

// readyIn reports whether the leader of the term knows its own log.
func (l *ledger) readyIn(term uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inOffice(term)
}

// inOffice is readyIn for who holds the lock.
func (l *ledger) inOffice(term uint64) bool { return l.ready && l.term == term }

// following tells which nodes hold a lease and the map of their incarnation.
func (l *ledger) following(now time.Time, st *raftstore.State) map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string]bool{}
	for name, t := range l.tenants {
		n, known := st.Nodes[name]
		if known && n.ServerID == t.serverID && !t.judged && now.Before(t.until) && t.held >= n.Changed {
			all[name] = true
		}
	}
	return all
}

// account is a copy of what the ledger says of a node.
type account struct {
	left     time.Duration // of the lease, at the least; 0 when over
	version  string
	problems []string
}

// accounts returns what is known of all nodes heard in this term.
func (l *ledger) accounts(now time.Time) map[string]account {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string]account{}
	for name, t := range l.tenants {
		// The leader counts a lease 2M longer than its node does.
		left := max(t.until.Add(-2*l.timing.Margin).Sub(now), 0)
		all[name] = account{left: left, version: t.version, problems: t.problems}
	}
	return all
}
