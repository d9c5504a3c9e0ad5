package nft

import (
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// forgetUnanswered has the kernel forget the neighbours on a link that it has
// asked for in vain, so that the next packet asks again. By itself it asks once
// a second (net.ipv4.neigh.*.retrans_time_ms): a node whose cable is out for a
// moment asks for its peers just then, and would speak to none of them for a
// second, which is longer than a lease. Where it fails it takes that second.
func (p *Plane) forgetUnanswered(index int) {
	const unanswered = unix.NUD_INCOMPLETE | unix.NUD_FAILED
	_ = p.ns.do(func() error {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			neighbours, err := netlink.NeighList(index, family)
			if err != nil {
				return err
			}
			for _, n := range neighbours {
				if n.State&unanswered != 0 {
					_ = netlink.NeighDel(&n) // it may be answered or gone by now
				}
			}
		}
		return nil
	})
}
