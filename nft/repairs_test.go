package nft

import (
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"earshot/hashmode"
)

// What others did is counted once, what we did is not.
func TestRepairsAreCounted(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	want := uint64(0)
	index := uint64(0)
	apply := func(what string, services ...Service) {
		t.Helper()
		index++
		must(t, p.Apply(Ruleset{Index: index, Services: services}))
		if got := p.Repairs(); got != want {
			t.Fatalf("%s: %d repairs, want %d", what, got, want)
		}
	}
	harm := func(f func(c *nftables.Conn)) {
		w.node.Do(func() {
			c, err := nftables.New()
			must(t, err)
			f(c)
			must(t, c.Flush())
		})
		p.Resync()
		want++
	}
	mine := web(buckets(0, 7), hashmode.Set{}, hashmode.Set{})
	apply("the first rules", mine)
	p.Resync()
	apply("a look that finds all in order", mine)
	apply("another map", web(buckets(0, 3), hashmode.Set{}, buckets(4, 7)))
	p.Resync()
	apply("another map after a look", mine)
	apply("another service", mine, other())
	p.Resync()
	apply("a service less", mine)

	harm(func(c *nftables.Conn) { c.FlushRuleset() })
	apply("all rules deleted", mine)
	apply("nothing since", mine)
	harm(func(c *nftables.Conn) {
		must(t, c.SetDeleteElements(&nftables.Set{Table: tableOf(inet), Name: setHeld}, []nftables.SetElement{{Key: heldKey(index)}}))
	})
	apply("an element deleted", mine)
	harm(func(*nftables.Conn) {
		addrs, err := netlink.AddrList(nil, netlink.FAMILY_V4)
		must(t, err)
		for _, a := range addrs {
			if addrOf(a) == mine.Address {
				link, err := netlink.LinkByIndex(a.LinkIndex)
				must(t, err)
				must(t, netlink.AddrDel(link, &a))
			}
		}
	})
	apply("the address removed", mine)
}
