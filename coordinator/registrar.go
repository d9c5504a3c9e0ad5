package coordinator

import (
	"context"
	"log/slog"
	"time"

	"earshot/raftstore"
)

// registrar carries out what votes says, while this node leads. It is not
// part of the leader's own loop: a change of the Raft configuration waits for
// its commit, and nobody's judgement may wait for that.
type registrar struct {
	store  Store
	timing Timing
	ledger *ledger
	log    *slog.Logger

	// Of run alone: since when this node has seen servers dead or nobody's, by
	// their ids. It watches while others lead, too: elections cost no time.
	since map[string]time.Time
}

// registrarEvery is the time between two looks at the votes.
const registrarEvery = time.Second

func (r *registrar) run(ctx context.Context) error {
	ticker := time.NewTicker(registrarEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			r.step(ctx, now)
		}
	}
}

// step makes one change, if one is due. The next one waits until its
// commit is known: Raft itself begins none while one is under way.
func (r *registrar) step(ctx context.Context, now time.Time) {
	servers := r.store.Servers()
	all := r.electors(now, servers)
	// A leader that is not ready may not know who has come back.
	if lead := r.store.Leadership(); !lead.Self || !r.ledger.readyIn(lead.Term) {
		return
	}
	what, who := votes(all)
	if what == keepAll {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, max(2*r.timing.Lease, registrarEvery))
	defer cancel()
	if err := r.carryOut(ctx, what, who, servers); err != nil {
		r.log.Debug("change of the voters not committed", "change", what, "node", who.node, "server", who.id, "error", err)
		return
	}
	r.log.Info("changed the voters", "change", what, "node", who.node, "server", who.id)
}

func (r *registrar) carryOut(ctx context.Context, what ruling, who elector, servers []raftstore.Server) error {
	if what == expel {
		return r.store.Expel(ctx, who.id)
	}
	for _, s := range servers {
		if s.ID == who.id {
			return r.store.Vote(ctx, s, what == promote)
		}
	}
	return nil
}

// electors puts together what the state, the ledger and the clock say.
func (r *registrar) electors(now time.Time, servers []raftstore.Server) []elector {
	st := r.store.State()
	ready := r.ledger.following(now, st)
	nodes := map[string]raftstore.Node{}
	for _, n := range st.Nodes {
		nodes[n.ServerID] = n
	}
	var all []elector
	since := map[string]time.Time{}
	for _, s := range servers {
		n, known := nodes[s.ID]
		e := elector{id: s.ID, node: n.Name, vote: s.Voter}
		e.lives = known && (!n.Failed || s.ID == r.store.ServerID()) // who leads votes
		e.ready = e.lives && ready[n.Name]
		if !e.lives {
			since[s.ID] = now
			if first, known := r.since[s.ID]; known {
				since[s.ID] = first
			}
			// A join that is under way is over by then, too.
			e.gone = now.Sub(since[s.ID]) >= r.timing.gone()
		}
		all = append(all, e)
	}
	r.since = since
	return all
}
