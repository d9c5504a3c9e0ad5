package nft

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// theirsPerMessage is how many elements of the largest kind, of some 100
// bytes, go into one message of a transaction (as perMessage).
const theirsPerMessage = 400

// remember has the kernel drop what comes of the flows without holding it.
func (h *holder) remember(flows []Flow) error {
	if len(flows) == 0 {
		return nil
	}
	bySet := map[string][]nftables.SetElement{}
	slices.SortFunc(flows, Flow.compare)
	for _, f := range slices.Compact(flows) {
		name := setTheirs(f.Server.Addr().Is6(), f.kind())
		bySet[name] = append(bySet[name], nftables.SetElement{Key: theirsKey(f), Timeout: TheirsTime})
	}
	err := h.changeTheirs(func(c *nftables.Conn) error {
		for name, elements := range bySet {
			for some := range slices.Chunk(elements, theirsPerMessage) {
				if err := c.SetAddElements(&nftables.Set{Table: tableOf(inet), Name: name, HasTimeout: true}, some); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, unix.ENFILE) { // the set is full: these are asked about again
		return fmt.Errorf("remember flows of peers: %w", err)
	}
	return nil
}

func (f Flow) compare(g Flow) int {
	return cmp.Or(cmp.Compare(f.Protocol, g.Protocol), f.Client.Compare(g.Client), f.Server.Compare(g.Server))
}

func (h *holder) changeTheirs(change func(*nftables.Conn) error) error {
	h.theirsMu.Lock()
	defer h.theirsMu.Unlock()
	return noTable(h.theirs.transact(change))
}

// AskAgain forgets which flows are a peer's: the next packet of each is held.
// Call it when a former owner has died.
func (p *Plane) AskAgain() error {
	err := p.holds.changeTheirs(func(c *nftables.Conn) error {
		for _, s := range holdSets() {
			c.FlushSet(&nftables.Set{Table: tableOf(inet), Name: s.name})
		}
		return nil
	})
	if err != nil && !errors.Is(err, ErrNoTable) { // then there is nothing to forget
		return fmt.Errorf("forget flows of peers: %w", err)
	}
	return nil
}
