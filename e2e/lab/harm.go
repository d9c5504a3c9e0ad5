package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"unsafe"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What other programs and people do to a host.

// FlushRuleset removes every table, whosever it is.
func (n *Namespace) FlushRuleset() error {
	return n.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		conn.FlushRuleset()
		return conn.Flush()
	})
}

// RemoveAddress takes an address off the node's eth1.
func (n *Node) RemoveAddress(a netip.Addr) error {
	return n.Do(func() error {
		link, err := netlink.LinkByName(n.Port.Device)
		if err != nil {
			return err
		}
		return netlink.AddrDel(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, a.BitLen()))})
	})
}

// SetLink sets a node's eth1 up or down. The node's own IPv6 address and its
// routes, which go with the link, come back with it, as from a network manager.
func (l *Lab) SetLink(n *Node, up bool) error {
	if err := setUp(n.Namespace, n.Port.Device, up); err != nil || !up {
		return err
	}
	own := netip.PrefixFrom(n.Port.IPv6, n.Port.segment.IPv6.Bits()).String()
	if err := n.AddAddress(own); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	return l.routes(n)
}

// SetMAC gives the node's eth1 another MAC.
func (n *Node) SetMAC(mac net.HardwareAddr) error {
	return n.Do(func() error {
		link, err := netlink.LinkByName(n.Port.Device)
		if err != nil {
			return err
		}
		return netlink.LinkSetHardwareAddr(link, mac)
	})
}

// LeaveMAC has the node's eth1 receive a multicast MAC no more, as `ip maddress
// del` does.
func (n *Node) LeaveMAC(mac net.HardwareAddr) error {
	return n.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		var request struct { // struct ifreq with ifr_hwaddr
			name   [unix.IFNAMSIZ]byte
			family uint16
			data   [22]byte
		}
		copy(request.name[:], n.Port.Device)
		copy(request.data[:], mac)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCDELMULTI, uintptr(unsafe.Pointer(&request))); errno != 0 {
			return fmt.Errorf("leave %s: %w", mac, errno)
		}
		return nil
	})
}

// RemakeLink deletes the node's eth1 and makes it anew, with the same MAC,
// addresses and routes.
func (l *Lab) RemakeLink(n *Node) error {
	p := n.Port
	err := p.segment.fabric.Do(func() error {
		link, err := netlink.LinkByName(p.outlet)
		if err != nil {
			return err
		}
		if err := netlink.LinkDel(link); err != nil {
			return err
		}
		return p.cable(n.Namespace)
	})
	if err != nil {
		return fmt.Errorf("make %s of %s anew: %w", p.Device, n.Name, err)
	}
	if err := n.Do(p.configure); err != nil {
		return fmt.Errorf("configure %s of %s: %w", p.Device, n.Name, err)
	}
	return l.routes(n)
}

// routes gives a node the ways to the clients' sources.
func (l *Lab) routes(n *Node) error {
	for _, c := range l.Clients {
		if err := n.Do(c.routeTo); err != nil {
			return fmt.Errorf("route from %s to %s: %w", n.Name, c.Name, err)
		}
	}
	return nil
}
