package coordinator

import (
	"context"
	"slices"

	"earshot/raftstore"
)

// level is how far this node's kernel is.
func (c *Coordinator) level() level {
	return level{Held: c.held(), Released: c.release.told()}
}

// held is the newest map of this cluster that the kernel holds. One that this
// node's log does not reach may be of a cluster that is no more: a lease for it
// would keep it for ever (rule P11).
func (c *Coordinator) held() uint64 {
	held := c.reconciler.held.Load()
	if held > c.store.LastCommand() {
		return 0
	}
	return held
}

// mapHeld passes on that the kernel holds a newer map: to a grant that waits
// for it, to the leader, and to the former owners of buckets, who go on
// answering until then.
func (c *Coordinator) mapHeld(held uint64) {
	c.tenant.mapHeld(held)
	c.spread(func(slot raftstore.Slot) []string {
		if slot.Owner == c.cfg.Node {
			return slot.From
		}
		return nil
	})
}

// released passes on that more is released: to the leader and to the new
// owners, who wait for it (rule P13).
func (c *Coordinator) released(uint64) {
	signal(c.drainer.wake)
	c.spread(func(slot raftstore.Slot) []string {
		if slices.Contains(slot.From, c.cfg.Node) {
			return []string{slot.Owner}
		}
		return nil
	})
}

// spread tells this node's level to the leader and to the nodes that are named
// for some slot. Whom it does not reach, the leader tells.
func (c *Coordinator) spread(to func(raftstore.Slot) []string) {
	mine := c.level()
	c.news.learn(levels{c.cfg.Node: mine})
	c.tenant.renewNow()
	st := c.store.State()
	names := map[string]bool{}
	for _, v := range st.Services {
		for _, slot := range v.Map {
			for _, name := range to(slot) {
				names[name] = true
			}
		}
	}
	delete(names, c.cfg.Node)
	for name := range names {
		addr := st.Nodes[name].Listen
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), c.cfg.Timing.Lease)
			defer cancel()
			err := c.peers.Call(ctx, addr, pathHeld, heldNews{c.cfg.Node, mine}, nil)
			if err != nil {
				c.log.Debug("level not told directly; the leader tells it", "to", name, "error", err)
			}
		}()
	}
	signal(c.leader.wake)
}
