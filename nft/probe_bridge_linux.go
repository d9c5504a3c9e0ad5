package nft

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// probeBridge looks whether the interface is a bridge of this machine, or a
// port of one, that keeps frames to the cluster MAC from some of its ports. A
// bridge elsewhere, a hypervisor's, cannot be seen from here: test frames tell.
func (p *Plane) probeBridge(a address, link netlink.Link) []Finding {
	bridge, ok := link.(*netlink.Bridge)
	if master := link.Attrs().MasterIndex; !ok && master != 0 {
		over, err := p.links.LinkByIndex(master)
		if err != nil {
			return nil
		}
		bridge, ok = over.(*netlink.Bridge)
	}
	if !ok {
		return nil
	}
	name := bridge.Attrs().Name
	f := Finding{Service: a.Services[0].Name, Severity: OK, What: "bridge " + name + " brings multicast frames to all ports"}
	if bridge.MulticastSnooping != nil && *bridge.MulticastSnooping && !stealth(a.MAC) {
		f.Severity = Warn
		f.What = fmt.Sprintf("bridge %s snoops: once it hears a querier, it keeps frames to %s from its ports", name, a.MAC)
		f.Mend = fmt.Sprintf("ip link set dev %s type bridge mcast_snooping 0", name)
	}
	return []Finding{f}
}
