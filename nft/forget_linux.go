package nft

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// ErrLeased is returned for what must not be done while a lease runs.
var ErrLeased = errors.New("a lease runs")

// Forget lets the next Apply write an older map than the kernel holds (rule
// P11): what it holds is of a cluster that is no more. It returns ErrLeased
// while a lease runs, which may let that map answer still.
func (p *Plane) Forget() error {
	left, err := p.LeaseLeft()
	if err != nil {
		return fmt.Errorf("forget the map: %w", err)
	}
	if left > 0 {
		return fmt.Errorf("forget the map: %w for another %v", ErrLeased, left)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err = p.wire.transact(func(c *nftables.Conn) error {
		c.FlushSet(&nftables.Set{Table: tableOf(inet), Name: setHeld})
		return nil
	})
	if err != nil && !errors.Is(err, unix.ENOENT) { // no table holds none
		return fmt.Errorf("forget the map: %w", err)
	}
	p.held, p.stale = 0, true
	return nil
}
