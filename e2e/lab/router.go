package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Router is a router on the service segment, with a network behind it.
type Router struct {
	*Namespace
	Port *Port
	// Far is a host behind the router. It has every address of Sources, and
	// the IPv6 addresses of Sources6.
	Far      *Namespace
	Sources  netip.Prefix
	Sources6 []netip.Addr
}

const (
	routerHost = 121
	farCount   = 24 // addresses in Sources6
)

// The networks behind the router: the link to the far host, and its sources.
var (
	farLink  = [2]netip.Prefix{netip.MustParsePrefix("10.50.0.0/24"), netip.MustParsePrefix("fd00:50::/64")}
	farNet   = netip.MustParsePrefix("10.60.0.0/16")
	farNet6  = netip.MustParsePrefix("fd00:60::/64")
	nearSide = byte(1)
	farSide  = byte(2)
)

// AddRouter adds a router whose way to the far host takes packets of at most
// mtu bytes. The far host does not know that: its packets are small, and those
// to it are what the router has to complain of.
func (l *Lab) AddRouter(mtu int) (*Router, error) {
	r := &Router{Sources: farNet}
	for i := range farCount {
		r.Sources6 = append(r.Sources6, withHost(farNet6, byte(1+i)))
	}
	var err error
	if r.Namespace, err = NewNamespace("r1"); err != nil {
		return nil, err
	}
	l.routers = append(l.routers, r)
	if r.Far, err = NewNamespace("far"); err != nil {
		return nil, err
	}
	if r.Port, err = l.Service.plug(r.Namespace, routerHost); err != nil {
		return nil, err
	}
	if err := errors.Join(r.Do(func() error { return r.link(mtu) }), r.Far.Do(r.settle), r.Do(r.forward)); err != nil {
		return nil, fmt.Errorf("make router: %w", err)
	}
	for _, n := range l.Nodes {
		if err := n.Do(func() error { return routesVia(r.Port.Addr, r.Port.IPv6, farNet, farNet6) }); err != nil {
			return nil, fmt.Errorf("route from %s: %w", n.Name, err)
		}
	}
	return r, nil
}

func (r *Router) close() {
	for _, n := range []*Namespace{r.Namespace, r.Far} {
		if n != nil {
			n.Close()
		}
	}
}

// link joins the router and the far host; it runs in the router.
func (r *Router) link(mtu int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = "eth2", mtu
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerMTU = "eth1", 1500
	veth.PeerNamespace = netlink.NsFd(int(r.Far.netns.Fd()))
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	return linkUp("eth2", nearSide)
}

// linkUp gives an end of the link its addresses.
func linkUp(device string, host byte) error {
	if err := writeSysctl("net/ipv6/conf/"+device+"/accept_dad", "0"); err != nil {
		return err
	}
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	for _, p := range farLink {
		addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(withHost(p, host), p.Bits())), Flags: unix.IFA_F_NODAD}
		if p.Addr().Is4() {
			addr.Flags = 0
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("add %v to %s: %w", addr, device, err)
		}
	}
	return netlink.LinkSetUp(link)
}

// settle gives the far host its addresses and its ways; it runs there.
func (r *Router) settle() error {
	if err := linkUp("eth1", farSide); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	err = netlink.RouteAdd(&netlink.Route{
		LinkIndex: lo.Attrs().Index, Dst: ipNet(r.Sources), Table: unix.RT_TABLE_LOCAL,
		Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST,
	})
	if err != nil {
		return err
	}
	for _, a := range r.Sources6 {
		if err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, 128)), Flags: unix.IFA_F_NODAD}); err != nil {
			return err
		}
	}
	return routesVia(withHost(farLink[0], nearSide), withHost(farLink[1], nearSide),
		netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
}

// forward makes the namespace a router with a way to the far sources.
func (r *Router) forward() error {
	for _, path := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		if err := writeSysctl(path, "1"); err != nil {
			return err
		}
	}
	return routesVia(withHost(farLink[0], farSide), withHost(farLink[1], farSide), farNet, farNet6)
}

// routesVia adds a route for each network, by the way of its family.
func routesVia(via, via6 netip.Addr, networks ...netip.Prefix) error {
	for _, p := range networks {
		gateway := via
		if p.Addr().Is6() {
			gateway = via6
		}
		if err := netlink.RouteAdd(&netlink.Route{Dst: ipNet(p), Gw: gateway.AsSlice()}); err != nil {
			return fmt.Errorf("add route to %s: %w", p, err)
		}
	}
	return nil
}

// Source returns the i-th IPv4 address of the far host.
func (r *Router) Source(i int) netip.Addr {
	return (&Client{Sources: r.Sources}).Source(i)
}

// ForgetNeighbours empties a host's ARP and neighbour caches.
func (n *Namespace) ForgetNeighbours() error { return n.Do(forgetNeighbours) }

func forgetNeighbours() error {
	all, err := netlink.NeighList(0, unix.AF_UNSPEC)
	if err != nil {
		return err
	}
	for _, e := range all {
		const fixed = netlink.NUD_PERMANENT | netlink.NUD_NOARP
		if e.State&fixed != 0 || e.Family == unix.AF_BRIDGE {
			continue
		}
		if err := netlink.NeighDel(&e); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("forget %s: %w", e.IP, err)
		}
	}
	return nil
}

// Complaints counts the ICMP errors that the router has sent: "destination
// unreachable", which "fragmentation needed" is one of, or IPv6's "packet too
// big".
func (r *Router) Complaints(v6 bool) (count int, err error) {
	err = r.Do(func() error {
		file, key := "/proc/thread-self/net/snmp", "OutDestUnreachs"
		if v6 {
			file, key = "/proc/thread-self/net/snmp6", "Icmp6OutPktTooBigs"
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		count, err = counter(string(text), key)
		return err
	})
	return count, err
}

// counter finds a counter in a file that has keys and values in turn: a line
// of each, or a pair in each line.
func counter(text, key string) (int, error) {
	var keys []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 2 && fields[0] == key {
			return strconv.Atoi(fields[1])
		}
		for i, k := range keys {
			if k == key && i < len(fields) && fields[0] == keys[0] {
				return strconv.Atoi(fields[i])
			}
		}
		keys = fields
	}
	return 0, fmt.Errorf("no counter %s", key)
}
