package coordinator

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"earshot/hashmode"
	"earshot/raftstore"
)

// commandTimeout is how long an operator's command waits for a leader.
const commandTimeout = 5 * time.Second

// PeerAPI is what other nodes' agents may ask. Whoever reaches it has proved
// that it knows the cluster key.
func (c *Coordinator) PeerAPI() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST "+pathRenew, serve(c.leader.grantTo))
	mux.Handle("POST "+pathProbe, serve(func(_ context.Context, p probe) (probeAnswer, error) {
		return c.heard.answer(c.store, p)
	}))
	mux.Handle("POST "+pathHeld, serve(func(_ context.Context, n heldNews) (struct{}, error) {
		c.news.learn(levels{n.Node: n.level})
		return struct{}{}, nil
	}))
	mux.Handle("POST "+pathWhose, serve(func(_ context.Context, q whose) (whoseAnswer, error) {
		mine, err := c.kernel.Known(q.Flows)
		return whoseAnswer{mine}, err
	}))
	mux.Handle("POST "+pathPropose, serve(c.proposeForPeer))
	mux.Handle("POST "+pathStatus, serve(func(ctx context.Context, _ struct{}) (Status, error) {
		if !c.store.Leadership().Self {
			return Status{}, ErrNotLeader
		}
		return c.leaderStatus(ctx), nil
	}))
	mux.Handle("POST "+pathFlows, serve(func(context.Context, struct{}) (flowsAnswer, error) {
		return c.flows()
	}))
	mux.Handle("POST "+pathHeat, serve(func(context.Context, struct{}) (heatAnswer, error) {
		return c.heat()
	}))
	mux.Handle("POST "+pathForget, serve(c.forgetForPeer))
	mux.Handle("POST "+pathHear, serve(c.hear))
	return mux
}

// controlAPI is what the commands of this node's operator may ask.
func (c *Coordinator) controlAPI() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /v1/status", serve(func(ctx context.Context, _ struct{}) (Status, error) {
		return c.status(ctx), nil
	}))
	mux.HandleFunc("GET /v1/which", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		serve(func(context.Context, struct{}) (Which, error) {
			return which(c.store.State(), q.Get("service"), q.Get("client"), q.Get("port"))
		})(w, r)
	})
	mux.HandleFunc("GET /v1/events", c.streamEvents)
	mux.Handle("POST /v1/reload", serve(c.reload))
	mux.Handle("POST /v1/apply/plan", serve(c.planApply))
	mux.Handle("POST /v1/apply", serve(c.apply))
	mux.Handle("POST /v1/wish", serve(c.wish))
	mux.Handle("POST /v1/move", serve(c.move))
	mux.Handle("POST /v1/forget", serve(c.forget))
	mux.Handle("POST /v1/examine", serve(c.examine))
	return mux
}

// proposeForPeer commits another node's command. What rests on a leader's own
// judgement cannot come from outside.
func (c *Coordinator) proposeForPeer(ctx context.Context, cmd raftstore.Command) (struct{}, error) {
	if cmd.Wish == nil && cmd.Pin == nil && cmd.Define == nil && cmd.EndDrain == nil && cmd.Redefine == nil {
		return struct{}{}, fmt.Errorf("propose: %w", raftstore.ErrCommand)
	}
	return struct{}{}, c.propose(ctx, cmd)
}

// propose commits a command on the leader.
func (c *Coordinator) propose(ctx context.Context, cmd raftstore.Command) error {
	if cmd.Pin != nil {
		if err := movable(c.store.State(), *cmd.Pin); err != nil {
			return err
		}
	}
	cmd, err := c.redefinable(ctx, cmd)
	if err != nil {
		return err
	}
	_, err = c.store.Propose(ctx, cmd)
	return err
}

// movable refuses a move by hand that a node which restarts would hold up, as
// no plan makes one (stuck). The leader looks before it proposes: the log then
// means the same to every version of this program.
func movable(st *raftstore.State, p raftstore.Pin) error {
	m := st.Services[p.Service].Map
	set, err := hashmode.ParseSet(p.Buckets, len(m))
	if p.Node == "" || err != nil {
		return nil // nothing moves, or whoever applies it says why not
	}
	for b := range set.All() {
		if name := stuck(st, m[b]); m[b].Owner != p.Node && name != "" {
			return fmt.Errorf("move bucket %d of %s: %w: %s", b, p.Service, raftstore.ErrRestarting, name)
		}
	}
	return nil
}

// wish takes a node out or brings it in.
func (c *Coordinator) wish(ctx context.Context, r WishRequest) (map[string]string, error) {
	if r.Node == "" {
		r.Node = c.cfg.Node
	}
	err := c.executeWithin(ctx, raftstore.Command{Wish: &raftstore.Wish{Node: r.Node, Out: r.Out, Cut: r.Cut}})
	return map[string]string{"node": r.Node}, err
}

// move pins buckets to a node.
func (c *Coordinator) move(ctx context.Context, r MoveRequest) (struct{}, error) {
	return struct{}{}, c.executeWithin(ctx, raftstore.Command{Pin: &raftstore.Pin{
		Service: r.Service, Buckets: r.Buckets, Node: r.Node,
	}})
}
