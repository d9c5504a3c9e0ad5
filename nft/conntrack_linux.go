package nft

import (
	"fmt"

	"github.com/ti-mo/conntrack"
)

// Conntrack tells how full the kernel's table of flows is.
func (p *Plane) Conntrack() (use ConntrackUse, err error) {
	err = p.tracker.ask(func(c *conntrack.Conn) error {
		g, err := c.StatsGlobal()
		use = ConntrackUse{Count: g.Entries, Max: g.MaxEntries}
		return err
	})
	if err != nil {
		return use, fmt.Errorf("read conntrack's use: %w", err)
	}
	return use, nil
}
