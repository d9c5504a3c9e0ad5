package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"earshot/hashmode"
	"earshot/raftstore"
)

// leader is what a node does while it leads: it grants leases, judges silent
// nodes and plans moves.
type leader struct {
	store  Store
	timing Timing
	ledger *ledger
	quorum *quorum
	news   *news
	heard  *hearsay
	log    *slog.Logger
	wake   chan struct{}
	greet  greeting
	// started is when this process began. A whole cluster that starts at
	// once waits for its slower nodes.
	started time.Time

	// Of run alone.
	term      uint64
	failed    uint64 // the last term that it could not begin
	tickedAt  time.Time
	ranAt     time.Time
	idle      *raftstore.State // needs no move until idleUntil, and no bucket of it is busy
	idleUntil time.Time
	disturbed time.Time // the last election or death
	formation formation
	pace      pace
	surveyor  surveyor
	balanced  int               // the last survey that was acted upon
	moved     moved             // by the load
	unsure    map[string]uint64 // deaths of unknown outcome, with their epoch

	succeeding sync.WaitGroup
}

// startGrace is how long after the start of its own process, in leases, a
// leader waits for silent nodes if it has heard of no leader before it: the
// whole cluster is starting, and its map is to stay as it was.
const startGrace = 10

// stepsInALease is how many steps a leader makes in the shortest lease, at the
// least: by their distance it knows whether it was stopped.
const stepsInALease = 12

// run leads whenever the store says that this node does.
func (l *leader) run(ctx context.Context) error {
	changed, cancel := l.store.Changed()
	defer cancel()
	every := l.timing.Lease
	ticker := time.NewTicker(every / stepsInALease)
	defer ticker.Stop()
	due := time.NewTimer(l.timing.Lease) // somebody's judgement
	defer due.Stop()
	defer l.succeeding.Wait()
	for {
		select {
		case <-ctx.Done():
			l.ledger.end()
			return nil
		case <-changed:
		case <-l.wake:
		case <-ticker.C:
		case <-due.C:
		}
		began := time.Now()
		if err := l.step(ctx); err != nil {
			return err
		}
		l.quorum.votersSince() // whoever leads
		if shortest := l.timing.shortest(l.store.State()); shortest != every {
			every = shortest
			ticker.Reset(every / stepsInALease)
		}
		if at, any := l.ledger.due(began, l.store.State()); any {
			due.Reset(time.Until(at) + time.Microsecond)
		}
		lead := l.store.Leadership()
		l.greet.look(lead, l.term == lead.Term, len(l.store.State().Nodes))
	}
}

// errStuck ends the agent: only without it do the others elect another leader,
// since Raft's heartbeats go on over a disk that hangs (rule P10).
var errStuck = errors.New("this leader cannot commit and cannot hand over: ending, so that another is elected")

// step does what is to be done now. Its error ends the agent.
func (l *leader) step(ctx context.Context) error {
	now := time.Now()
	lead := l.store.Leadership()
	if !lead.Self {
		if l.term != 0 {
			l.log.Info("no longer the leader", "term", l.term)
			l.term = 0
			l.ledger.end()
		}
		return nil
	}
	if lead.Term != l.term {
		return l.begin(ctx, lead, now)
	}
	// Was this process stopped? Then the others' silence is its own.
	if stopped := now.Sub(l.ranAt); stopped > l.timing.shortest(l.store.State())/3 {
		l.ledger.delay(now.Add(min(l.timing.Respite, stopped*3/2)))
	}
	l.ranAt = now
	if err := l.tick(ctx, now); err != nil {
		return err
	}
	l.heed(l.ledger.damping.get())
	l.judge(ctx, now)
	l.welcome(ctx, now)
	l.enroll(ctx, now)
	l.tend(ctx, now)
	l.plan(ctx, now)
	l.balance(ctx, now)
	l.ranAt = time.Now()
	return nil
}

// begin takes office: nothing is granted before an entry of the own term is
// applied (rule P3). One that cannot commit that in two tries, and reads no log
// meanwhile that it has to read first, does not lead (rule P10). A disk that is
// slow and does not hang has the election to write before the first.
func (l *leader) begin(ctx context.Context, lead raftstore.Leadership, now time.Time) error {
	if err := l.store.Halted(); err != nil {
		l.giveWay(ctx, err)
		return nil
	}
	extra := time.Duration(0)
	if l.heard.nobody() {
		extra = max(startGrace*l.timing.Lease-now.Sub(l.started), 0)
	}
	l.ledger.begin(lead.Term, now, extra)
	l.term, l.ranAt, l.tickedAt, l.unsure = lead.Term, now, now, map[string]uint64{}
	l.log.Info("leading", "term", lead.Term)
	before := l.store.State().Index
	if err := l.commit(ctx, raftstore.Command{Tick: &raftstore.Tick{}}); err != nil {
		l.term = 0 // begin again
		if errors.Is(err, raftstore.ErrNotLeader) || l.store.Halted() != nil || l.store.State().Index != before {
			return nil
		}
		if l.failed != lead.Term {
			l.failed = lead.Term
			return nil
		}
		return l.standDown(ctx, lead.Term, err)
	}
	l.ledger.setReady(lead.Term)
	l.ranAt = time.Now()
	l.ledger.delay(l.ranAt.Add(l.timing.Respite)) // nobody could be granted anything until now
	l.succeeding.Go(func() { l.succeed(ctx, lead.Term) })
	l.formation, l.idle = formation{}, nil
	l.pace, l.moved = pace{Damping: l.ledger.damping.get()}, moved{}
	l.disturb(l.ranAt)
	return nil
}

// succeed finds out when the leaders before could last grant a lease. It asks
// until the wait from the election is over anyway (rule P6).
func (l *leader) succeed(ctx context.Context, term uint64) {
	wait := l.timing.Lease
	for _, n := range l.store.State().Nodes {
		wait = max(wait, n.Lease)
	}
	ctx, cancel := context.WithTimeout(ctx, l.timing.patience(wait))
	defer cancel()
	for l.leadsIn(term) {
		answered, err := l.quorum.lastAnswer(term)
		if err == nil {
			l.ledger.succeed(term, l.heard.former(term), answered)
			signal(l.wake) // a judgement may be due sooner
			return
		}
		l.log.Debug("not known when another leader was last answered", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(l.timing.Renew):
		}
	}
}

// giveWay hands over what a program that cannot read the log cannot lead.
func (l *leader) giveWay(ctx context.Context, reason error) {
	l.log.Error("elected, and cannot lead: handing over", "error", reason)
	ctx, cancel := context.WithTimeout(ctx, l.timing.Lease)
	defer cancel()
	if err := l.store.Transfer(ctx); err != nil {
		l.log.Debug("cannot hand over", "error", err)
	}
}

// commit proposes a command and waits for it as long as a leader may wait.
func (l *leader) commit(ctx context.Context, c raftstore.Command) error {
	ctx, cancel := context.WithTimeout(ctx, 2*l.timing.Lease)
	defer cancel()
	_, err := l.store.Propose(ctx, c)
	return err
}

// tick proves that this leader can commit. One that cannot grants no lease,
// hands over if it can, and ends if it cannot (rule P10).
func (l *leader) tick(ctx context.Context, now time.Time) error {
	if now.Sub(l.tickedAt) < l.timing.Tick {
		return nil
	}
	err := l.commit(ctx, raftstore.Command{Tick: &raftstore.Tick{}})
	l.tickedAt = time.Now()
	stuck := err != nil && ctx.Err() == nil && l.leadsIn(l.term)
	l.ledger.setStuck(stuck)
	if !stuck {
		return nil
	}
	return l.standDown(ctx, l.term, err)
}

// standDown has another lead, since this one could not commit. Its error ends
// the agent (rule P10).
func (l *leader) standDown(ctx context.Context, term uint64, reason error) error {
	if ctx.Err() != nil || !l.leadsIn(term) {
		return nil
	}
	l.log.Error("cannot commit: granting no lease and handing over", "error", reason)
	handing, cancel := context.WithTimeout(ctx, l.timing.Lease)
	defer cancel()
	if err := l.store.Transfer(handing); err != nil {
		l.log.Error("cannot hand over", "error", err)
	}
	if l.leadsIn(term) && ctx.Err() == nil {
		l.store.Resign()
		return errStuck
	}
	return nil
}

func (l *leader) leadsIn(term uint64) bool {
	lead := l.store.Leadership()
	return lead.Self && lead.Term == term
}

// judge commits the death of nodes that are silent.
func (l *leader) judge(ctx context.Context, now time.Time) {
	for _, name := range slices.Sorted(maps.Keys(l.unsure)) {
		if l.store.State().Epoch != l.unsure[name] {
			l.pardon(name) // applied, or stale for ever
			continue
		}
		l.bury(ctx, name)
	}
	for _, name := range l.ledger.judge(now, l.store.State()) {
		l.log.Warn("node is silent: giving its buckets away", "node", name, "term", l.term)
		l.bury(ctx, name)
	}
}

// bury commits a death. One that may still come through keeps the node judged,
// until the epoch that it was planned from is over; a term that ends takes the
// judgement with it.
func (l *leader) bury(ctx context.Context, name string) {
	l.disturb(time.Now())
	st := l.store.State()
	err := l.commit(ctx, raftstore.Command{Death: &raftstore.Death{
		Node: name, Term: l.term, Epoch: st.Epoch, Moves: deathPlan(st, name),
	}})
	if err != nil {
		l.log.Warn("death not committed", "node", name, "error", err)
	}
	_, before := l.unsure[name]
	if err == nil || !before && !errors.Is(err, raftstore.ErrUnknown) {
		l.pardon(name)
		return
	}
	if !before {
		l.unsure[name] = st.Epoch
	}
}

// pardon ends a judgement that is carried out, or never will be.
func (l *leader) pardon(name string) {
	delete(l.unsure, name)
	l.ledger.pardon(l.term, name)
}

// deathPlan says where the buckets of a node go when it dies, and moves
// nothing else.
func deathPlan(st *raftstore.State, node string) []raftstore.Move {
	return plan(st.Without(node), func(string, hashmode.Bucket) bool { return false }, orphansAlone())
}

// welcome enters what nodes say of themselves: that they are heard again, that
// a restart is over, what they can serve.
func (l *leader) welcome(ctx context.Context, now time.Time) {
	st := l.store.State()
	for _, name := range l.ledger.rested(st) {
		l.endRest(ctx, st.Nodes[name])
	}
	if f, found := l.ledger.fitness(now, st); found {
		l.log.Warn("node can serve other services than before", "node", f.Node, "unfit", f.Unfit)
		if err := l.commit(ctx, raftstore.Command{Fitness: &f}); errors.Is(err, raftstore.ErrOldMember) {
			f.Spare = nil // until all can read it
			l.try(ctx, raftstore.Command{Fitness: &f})
		}
	}
	for _, name := range l.ledger.returned(now, st) {
		l.log.Info("node is back", "node", name)
		l.try(ctx, raftstore.Command{Return: &raftstore.Return{Node: name, Term: l.term}})
	}
}

// endRest commits that the rest is over that the state tells of, and no later
// one: the node may have begun to stop again.
func (l *leader) endRest(ctx context.Context, n raftstore.Node) {
	over := raftstore.Rest{Node: n.Name, By: n.RestBy}
	if err := l.commit(ctx, raftstore.Command{Rest: &over}); errors.Is(err, raftstore.ErrOldMember) {
		over.By = 0
		l.try(ctx, raftstore.Command{Rest: &over})
	}
}

// untaken reports a slot whose last move is not known to be taken yet.
func untaken(slot raftstore.Slot, l levels) bool {
	return slot.Owner != "" && (!l.ready(slot) || !l.released(slot))
}

// try commits what will be tried again at the next step if it fails.
func (l *leader) try(ctx context.Context, c raftstore.Command) {
	if err := l.commit(ctx, c); err != nil && ctx.Err() == nil {
		l.log.Debug("not committed", "error", err)
	}
}

// grantTo answers a node's request for a lease.
func (l *leader) grantTo(ctx context.Context, r renewal) (grant, error) {
	lead := l.store.Leadership()
	if !lead.Self {
		return grant{}, ErrNotLeader
	}
	if r.Rest > 0 {
		// In the log first: the next leader must know of it, too.
		if err := l.enterRest(ctx, r); err != nil {
			return grant{}, err
		}
	}
	l.awaitReady(ctx, lead.Term)
	if err := l.quorum.confirm(ctx, lead.Term); err != nil {
		return grant{}, err
	}
	bound, err := l.ledger.grant(time.Now(), lead.Term, l.store.State, r, r.Rest, l.store.LastChange)
	if err != nil {
		return grant{}, err
	}
	if n := l.store.State().Nodes[r.Node]; !maps.Equal(n.Unfit, r.Unfit) || !maps.Equal(n.Spare, r.Spare) {
		signal(l.wake)
	}
	l.news.learn(levels{r.Node: r.level})
	return grant{Term: lead.Term, Bound: bound, Levels: l.news.all()}, nil
}

// enterRest commits that the node is restarting.
func (l *leader) enterRest(ctx context.Context, r renewal) error {
	_, err := l.store.Propose(ctx, raftstore.Command{Rest: &raftstore.Rest{Node: r.Node, For: r.Rest, By: r.Process}})
	return err
}
