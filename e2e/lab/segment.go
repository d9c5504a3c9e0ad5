package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
)

// Segment is one Ethernet segment: a bridge in the switch's namespace. Hosts
// plug into it with a veth pair.
type Segment struct {
	Name   string       // of the bridge, "service" or "cluster"
	Prefix netip.Prefix // the IPv4 network
	IPv6   netip.Prefix // the IPv6 network

	device string // name of the hosts' interfaces in this segment
	number byte   // in MAC addresses
	fabric *Namespace
}

// Port is a host's plug in a segment.
type Port struct {
	Device string           // the interface inside the host, "eth1"
	MAC    net.HardwareAddr // of the interface
	Addr   netip.Addr       // the host's own IPv4 address
	IPv6   netip.Addr

	segment *Segment
	outlet  string // the switch's end of the cable
}

// newSegment makes the bridge. Snooping needs a querier to matter; it comes
// with it, or else nothing would ever be learned and nothing held back.
func newSegment(fabric *Namespace, s Segment, snooping bool) (*Segment, error) {
	s.fabric = fabric
	err := fabric.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = s.Name
		bridge := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}
		if err := netlink.LinkAdd(bridge); err != nil {
			return err
		}
		// With br_netfilter, each frame would pass the switch's own firewall.
		for _, family := range []string{"ip", "ip6", "arp"} {
			_ = writeSysctl("net/bridge/bridge-nf-call-"+family+"tables", "0") // costs time, no more
		}
		return netlink.LinkSetUp(bridge)
	})
	if err == nil && snooping {
		err = s.querier()
	}
	if err != nil {
		return nil, fmt.Errorf("make bridge %s: %w", s.Name, err)
	}
	return &s, nil
}

// querier lets the bridge ask for group members itself.
func (s *Segment) querier() error {
	return s.Set("multicast_querier", "1")
}

// Set writes a setting of the switch, "multicast_snooping".
func (s *Segment) Set(setting, value string) error {
	return s.fabric.onThread(func() error { return writeSys(s.Name, "bridge/"+setting, value) })
}

// SetPort writes a setting of the switch's end of a cable, "multicast_router".
func (p *Port) SetPort(setting, value string) error {
	return p.segment.fabric.onThread(func() error { return writeSys(p.outlet, "brport/"+setting, value) })
}

// QuickQuerier has the switch's querier go through its states in seconds: it
// asks every second, believes an answer for three, and begins anew.
func (s *Segment) QuickQuerier() error {
	for _, set := range [][2]string{
		{"multicast_query_interval", "100"}, // hundredths of a second
		{"multicast_query_response_interval", "100"},
		{"multicast_startup_query_interval", "100"},
		{"multicast_membership_interval", "300"},
		{"multicast_querier_interval", "300"},
		{"multicast_querier", "0"},
		{"multicast_querier", "1"},
	} {
		if err := s.Set(set[0], set[1]); err != nil {
			return fmt.Errorf("set %s of bridge %s: %w", set[0], s.Name, err)
		}
	}
	return nil
}

// plug connects a namespace: host is the last byte of its address.
func (s *Segment) plug(n *Namespace, host byte) (*Port, error) {
	p := &Port{
		Device: s.device, segment: s, outlet: n.Name + "." + s.Name,
		MAC:  net.HardwareAddr{0x02, 0xea, s.number, 0, 0, host},
		Addr: withHost(s.Prefix, host), IPv6: withHost(s.IPv6, host),
	}
	if err := s.fabric.Do(func() error { return p.cable(n) }); err != nil {
		return nil, fmt.Errorf("plug %s into %s: %w", n.Name, s.Name, err)
	}
	if err := n.Do(p.configure); err != nil {
		return nil, fmt.Errorf("configure %s of %s: %w", p.Device, n.Name, err)
	}
	return p, nil
}

// cable makes the veth pair; it runs in the switch's namespace.
func (p *Port) cable(n *Namespace) error {
	bridge, err := netlink.LinkByName(p.segment.Name)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = p.outlet
	attrs.MasterIndex = bridge.Attrs().Index
	veth := netlink.NewVeth(attrs)
	veth.PeerName = p.Device
	veth.PeerHardwareAddr = p.MAC
	veth.PeerNamespace = netlink.NsFd(int(n.netns.Fd()))
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	return netlink.LinkSetUp(veth)
}

// configure sets addresses and brings the interface up; it runs in the host.
// IPv6 addresses are used at once, without duplicate address detection.
func (p *Port) configure() error {
	if err := writeSysctl("net/ipv6/conf/"+p.Device+"/accept_dad", "0"); err != nil {
		return err
	}
	link, err := netlink.LinkByName(p.Device)
	if err != nil {
		return err
	}
	for _, prefix := range []netip.Prefix{
		netip.PrefixFrom(p.Addr, p.segment.Prefix.Bits()),
		netip.PrefixFrom(p.IPv6, p.segment.IPv6.Bits()),
	} {
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(prefix)}); err != nil {
			return fmt.Errorf("add address %s: %w", prefix, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	return p.awaitCarrier(link)
}

// add gives the interface one more address, in use at once: see configure.
func (p *Port) add(n *Namespace, prefix string) error {
	return n.Do(func() error {
		link, err := netlink.LinkByName(p.Device)
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(prefix)
		if err != nil {
			return err
		}
		return netlink.AddrAdd(link, addr)
	})
}

// awaitCarrier waits until the kernel has set up IPv6 on the new link, which
// is the last thing that it does by itself.
func (p *Port) awaitCarrier(link netlink.Link) error {
	return Poll(context.Background(), time.Second, func() error {
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V6)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			if a.IP.IsLinkLocalUnicast() {
				return nil
			}
		}
		return fmt.Errorf("no link-local address on %s", p.Device)
	})
}

// setUp sets the link with the given name in namespace n up or down.
func setUp(n *Namespace, name string, up bool) error {
	return n.Do(func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find link %s: %w", name, err)
		}
		if up {
			return netlink.LinkSetUp(link)
		}
		return netlink.LinkSetDown(link)
	})
}

// Outlet is the name of the switch's end of the cable.
func (p *Port) Outlet() string { return p.outlet }

// Unplug takes the cable's far end down: the host loses carrier.
func (p *Port) Unplug() error { return setUp(p.segment.fabric, p.outlet, false) }

// Replug undoes Unplug.
func (p *Port) Replug() error { return setUp(p.segment.fabric, p.outlet, true) }

// withHost returns the address of a prefix whose last byte is host.
func withHost(p netip.Prefix, host byte) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	b[len(b)-1] = host
	a, _ := netip.AddrFromSlice(b) // a prefix's own bytes: always an address
	return a
}

// ipNet converts a prefix for the netlink package.
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Run runs a command on the machine that has the bridge.
func (s *Segment) Run(ctx context.Context, c Command) (Result, error) { return s.fabric.Run(ctx, c) }
