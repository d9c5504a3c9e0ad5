package coordinator

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"earshot/coordinator/event"
	"earshot/raftstore"
)

// observer tells what changes, as this node sees it.
type observer struct {
	node     string
	store    Store
	timing   Timing
	hub      *event.Hub
	log      *slog.Logger
	held     func() levels // of the nodes' kernels
	standing func(time.Time) standing
	repairs  func() uint64 // of this node's kernel
	problems func() map[string][]string

	// Of run alone.
	began bool // the state is no old one that is read from the log
	last  event.View
	known known
}

// known is what the map says, as long as nothing of it has changed.
type known struct {
	state     *raftstore.State
	services  map[string]event.Service
	ownerless map[string]string
	// waiting: somebody waits for a release, so that news may change a share.
	waiting bool
}

// restFactor bounds the part of a processor that observing takes: after each
// look it rests for as many times what the look took, but no longer than a
// lease. On a machine short of CPU a look takes long by the clock, and what
// comes and goes while the observer rests is never told.
const restFactor = 20

// run observes until ctx ends. A look is made when something has changed, and
// for the lease with each renewal.
func (o *observer) run(ctx context.Context) error {
	changed, cancel := o.store.Changed()
	defer cancel()
	ticker := time.NewTicker(o.timing.Renew)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-ticker.C:
		}
		began := time.Now()
		o.look(began)
		rest := min(max(o.timing.Gather, restFactor*time.Since(began)), o.timing.Lease)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rest):
		}
	}
}

// look tells what has changed since the look before. The state that a starting
// agent reads from its log is history: it is told of nothing until its first
// lease, for which its kernel has to hold the newest map (rule P3).
func (o *observer) look(now time.Time) {
	stand := o.standing(now)
	if !o.began && !stand.lease {
		return
	}
	next := o.view(stand)
	if !o.began {
		o.began = true
		o.last = next
		o.last.Quorum, o.last.Lease, o.last.Leader, o.last.Warnings = false, false, "", nil
	}
	events := event.Derive(o.last, next)
	o.last = next
	for _, e := range events {
		o.log.Debug("event", "event", e.Type, "node", e.Node, "service", e.Service, "buckets", e.Buckets, "reason", e.Reason)
	}
	o.hub.Tell(now, events)
}

// view is the cluster as this node knows it now.
func (o *observer) view(stand standing) event.View {
	st := o.store.State()
	if o.known.state == nil || o.known.state.Epoch != st.Epoch || o.known.waiting {
		o.known = know(st, o.held())
	}
	v := event.View{
		Self: o.node, Epoch: st.Epoch, Nodes: map[string]event.Node{}, Services: o.known.services,
		Leader: o.leaderName(st), Quorum: stand.quorum, Lease: stand.lease, Repairs: o.repairs(), Warnings: o.warnings(st),
	}
	if stand.reason != nil {
		v.Silence = stand.reason.Error()
	}
	for name, n := range st.Nodes {
		v.Nodes[name] = event.Node{Disk: n.ServerID, Failed: n.Failed, Out: n.Out, Sick: n.Unfit}
	}
	return v
}

// leaderName is the node that leads, as far as this one knows.
func (o *observer) leaderName(st *raftstore.State) string {
	lead := o.store.Leadership()
	if lead.Self {
		return o.node
	}
	for name, n := range st.Nodes {
		if lead.Addr != "" && n.Listen == lead.Addr {
			return name
		}
	}
	return ""
}

// know reads the map. A failed node opens nothing, whatever it says.
func know(st *raftstore.State, held levels) known {
	k := known{state: st, services: map[string]event.Service{}, ownerless: map[string]string{}}
	for name, v := range st.Services {
		s := event.Service{Definition: definitionWords(v.Definition), Hash: v.Spec(), Shares: map[string]event.Share{}}
		cast := rolesOfAll(v.Map, held)
		for node, n := range st.Nodes {
			if n.Failed {
				continue
			}
			sets := cast[node]
			s.Shares[node] = event.Share{Open: sets[own].Union(sets[inherit]), Drain: sets[drain]}
			k.waiting = k.waiting || !sets[waiting].Empty()
		}
		k.services[name], k.ownerless[name] = s, ownerless(st, name).String()
	}
	return k
}

// definitionWords is a definition as its differences are told.
func definitionWords(d raftstore.Definition) map[string]string {
	words := map[string]string{}
	for _, f := range d.Fields() {
		words[f.Key] = fmt.Sprint(f.Value)
	}
	return words
}

// standing is a node's own part in the cluster.
type standing struct {
	// quorum: a leader takes its renewals. lease: it answers.
	quorum, lease bool
	reason        error // why not
}

// standing is this node's at the moment.
func (t *tenant) standing(now time.Time) standing {
	t.mu.Lock()
	defer t.mu.Unlock()
	return standing{quorum: now.Before(t.pending.until), lease: now.Before(t.until), reason: t.reason}
}

// warnings are those of the status, as far as this node knows without asking
// anybody.
func (o *observer) warnings(st *raftstore.State) []string {
	voters := map[string]bool{}
	for _, server := range o.store.Servers() {
		voters[server.ID] = server.Voter
	}
	problems := o.problems()
	s := Status{}
	for _, name := range st.NodeNames() {
		n := NodeStatus{Name: name, Voter: voters[st.Nodes[name].ServerID], State: StateIn, Problems: problems[name]}
		if st.Nodes[name].Failed {
			n.State = StateFailed
		}
		s.Nodes = append(s.Nodes, n)
	}
	for _, name := range st.ServiceNames() {
		s.Services = append(s.Services, ServiceStatus{Name: name, Ownerless: o.known.ownerless[name]})
	}
	return warnings(s)
}

// allProblems are this node's own and, on a leader, what the others say.
func (c *Coordinator) allProblems() map[string][]string {
	all := map[string][]string{}
	if c.store.Leadership().Self {
		for name, a := range c.leader.ledger.accounts(time.Now()) {
			all[name] = a.problems
		}
	}
	all[c.cfg.Node] = c.problems()
	return all
}

// newObserver joins the observer's parts.
func (c *Coordinator) newObserver() *observer {
	repairs := c.cfg.Repairs
	if repairs == nil {
		repairs = func() uint64 { return 0 }
	}
	return &observer{
		node: c.cfg.Node, store: c.store, timing: c.cfg.Timing, hub: &c.events, log: c.log,
		held: c.news.all, standing: c.tenant.standing, repairs: repairs, problems: c.allProblems,
	}
}
