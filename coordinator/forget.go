package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"earshot/raftstore"
)

// errMayLive: the node is judged dead, and may hold a lease all the same, of
// this leader or the one before.
var errMayLive = errors.New("the node may be alive: it has been heard again, or the leader is new")

// forget takes a node out of the cluster for good.
func (c *Coordinator) forget(ctx context.Context, r ForgetRequest) (struct{}, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	return struct{}{}, c.insist(ctx, func() error {
		lead := c.store.Leadership()
		switch {
		case lead.Self:
			return c.leader.forget(ctx, r.Node)
		case lead.Addr == "":
			return ErrNoLeader
		}
		return c.peers.Call(ctx, lead.Addr, pathForget, r, nil)
	})
}

// forgetForPeer does so for another node's operator.
func (c *Coordinator) forgetForPeer(ctx context.Context, r ForgetRequest) (struct{}, error) {
	return struct{}{}, c.leader.forget(ctx, r.Node)
}

// forget waits until the node's death is certain, as long as ctx lets it.
func (l *leader) forget(ctx context.Context, node string) error {
	for {
		err := l.forgetOnce(ctx, node)
		if !errors.Is(err, errMayLive) && !errors.Is(err, ErrNotReady) && !errors.Is(err, raftstore.ErrStale) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(l.timing.Renew):
		}
	}
}

// forgetOnce judges the node once more, so that it is granted nothing while
// its last buckets are given away (rule P4), and commits.
func (l *leader) forgetOnce(ctx context.Context, node string) error {
	lead := l.store.Leadership()
	if !lead.Self {
		return ErrNotLeader
	}
	st := l.store.State()
	n, known := st.Nodes[node]
	if !known {
		return fmt.Errorf("%w %q", raftstore.ErrUnknownNode, node)
	}
	again, err := l.ledger.condemn(time.Now(), lead.Term, st, n)
	if err != nil {
		return fmt.Errorf("forget %s: %w", node, err)
	}
	err = l.commit(ctx, raftstore.Command{Forget: &raftstore.Forget{
		Node: node, Term: lead.Term, Epoch: st.Epoch, Moves: deathPlan(st, node),
	}})
	switch {
	case errors.Is(err, raftstore.ErrUnknown):
		l.ledger.waver(lead.Term, node, st.Epoch)
	case err == nil || !again: // else the one before may still come through
		l.ledger.pardon(lead.Term, node)
	}
	if err != nil {
		return err
	}
	l.log.Info("node is forgotten", "node", node)
	if n.ServerID == "" {
		return nil // lost in a recovery
	}
	if err := l.store.Expel(ctx, n.ServerID); err != nil {
		l.log.Warn("the forgotten node's server is removed later", "node", node, "error", err)
	}
	return nil
}

// condemn judges a failed node that is to be forgotten. It can be repeated, and
// says so, while nobody knows what became of the command: the next one names the
// same epoch, so that no more than one of them is carried out.
func (l *ledger) condemn(now time.Time, term uint64, st *raftstore.State, n raftstore.Node) (again bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.inOffice(term) {
		return false, ErrNotReady
	}
	t := l.tenant(now, n)
	t.clear(st.Epoch)
	switch {
	case !n.Failed:
		return false, raftstore.ErrAlive
	case t.judged && t.doubt == st.Epoch:
		return true, nil
	case t.judged:
		return false, ErrJudged
	case now.Before(t.until), now.Before(l.graceOf(n)):
		return false, errMayLive
	}
	t.judged = true
	return false, nil
}

// clear ends a judgement in doubt when the state is of a later epoch.
func (t *tenancy) clear(epoch uint64) {
	if t.judged && t.doubt != 0 && t.doubt < epoch {
		t.judged, t.doubt = false, 0
	}
}
