package coordinator

import (
	"slices"
	"time"

	"earshot/nft"
)

// announce tells the segment where the shared addresses are. The node has
// just gained its lease, or mended what others had changed.
func (c *Coordinator) announce() {
	go func() {
		rs := desired(c.store.State(), c.cfg.Node, knowledge{interfaces: c.wiring.all()})
		rs.Services = slices.DeleteFunc(rs.Services, func(s nft.Service) bool { return c.fitness.isDeaf(s.Name) })
		if err := c.kernel.Announce(rs.Services); err != nil {
			c.log.Warn("cannot announce the shared addresses", "error", err)
		}
	}()
}

// announceAgain does so under a lease alone: the link may have been down, the
// interface may have another MAC, others may have answered meanwhile.
func (c *Coordinator) announceAgain() {
	if c.tenant.left(time.Now()) > 0 {
		c.announce()
	}
}
