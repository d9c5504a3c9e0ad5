package coordinator

import (
	"context"
	"slices"
	"time"

	"earshot/raftstore"
)

// Leave prepares a stop: the kernel goes on answering, by a lease that is
// long enough for a restart, and another node leads. Run must be running.
func (c *Coordinator) Leave(ctx context.Context) {
	c.finishReleasing(ctx)
	if c.cfg.Timing.Rest > 0 {
		if err := c.tenant.rest(ctx); err != nil {
			c.log.Warn("stopping without a restart lease: this node falls silent", "error", err)
		} else {
			c.log.Info("stopping: the kernel goes on answering", "for", c.cfg.Timing.Rest)
		}
	}
	if c.store.Leadership().Self && c.otherVoters() {
		if err := c.store.Transfer(ctx); err != nil {
			c.log.Warn("cannot hand the leadership over", "error", err)
		}
	}
	if c.cfg.Timing.Rest > 0 {
		c.finishTaking(ctx)
	}
	c.finishReleasing(ctx) // of what was closed meanwhile
	c.answerLast(ctx)
}

// finishReleasing waits until all that is closed is told as released. A new owner
// waits for what is not, as long as this node is waited for.
func (c *Coordinator) finishReleasing(ctx context.Context) {
	for c.release.pending() && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(c.cfg.Timing.Gather):
		}
	}
}

// answerLast waits until nobody asks about SYNs any more. For some time after a
// release its new owner does, about each, and drops those that nobody answers for.
func (c *Coordinator) answerLast(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Until(c.release.last().Add(c.cfg.Timing.asked(c.store.State())))):
	}
}

// finishTaking waits until this node has taken what was given to it. In a bucket
// that it is taking, flows are let in after a question alone, and nobody asks
// once the agent is gone. More is given to no node that rests; what a former
// owner does not release within the limit is left.
func (c *Coordinator) finishTaking(ctx context.Context) {
	limit := time.Now().Add(2 * c.cfg.Timing.Lease)
	for ctx.Err() == nil && time.Now().Before(limit) && c.reconciler.letsThrough().takes() {
		select {
		case <-ctx.Done():
		case <-time.After(c.cfg.Timing.Gather):
		}
	}
}

// otherVoters reports whether anybody else can lead.
func (c *Coordinator) otherVoters() bool {
	return slices.ContainsFunc(c.store.Servers(), func(s raftstore.Server) bool {
		return s.Voter && s.ID != c.store.ServerID()
	})
}
