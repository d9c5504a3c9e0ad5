package nft

import (
	"net/netip"

	"github.com/vishvananda/netlink"
)

// defaultGateway is the default gateway that lies on the interface, the zero
// Addr if there is none.
func defaultGateway(ifname string, v6 bool) netip.Addr {
	link, err := netlink.LinkByName(ifname)
	if err != nil {
		return netip.Addr{}
	}
	family := netlink.FAMILY_V4
	if v6 {
		family = netlink.FAMILY_V6
	}
	routes, _ := netlink.RouteList(link, family) // no routes, no gateway
	for _, r := range routes {
		everything := r.Dst == nil || r.Dst.IP.IsUnspecified() && prefixBits(r) == 0
		if addr, ok := netip.AddrFromSlice(r.Gw); ok && everything {
			return addr.Unmap()
		}
	}
	return netip.Addr{}
}

func prefixBits(r netlink.Route) int {
	ones, _ := r.Dst.Mask.Size()
	return ones
}
