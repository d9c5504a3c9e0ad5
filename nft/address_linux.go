package nft

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A shared IPv4 address is a /32 of scope host, labelled as ours: source
// selection never takes an address of that scope for a connection to
// elsewhere, and the label tells it from an address that the node has of its
// own. For IPv6 see add6.
const labelSuffix = ":earshot"

func label(ifname string) string {
	if len(ifname)+len(labelSuffix) > maxInterface {
		return labelSuffix[1:]
	}
	return ifname + labelSuffix
}

// ours reports whether an address was put there by Earshot.
func ours(a netlink.Addr) bool {
	ones, bits := a.Mask.Size()
	return ones == bits && (a.Scope == unix.RT_SCOPE_HOST || addrOf(a).Is6()) &&
		(a.Label == labelSuffix[1:] || strings.HasSuffix(a.Label, labelSuffix))
}

// listTries bounds the tries to list interfaces and addresses: a list is spoilt by
// whoever changes another interface meanwhile, as a container does that starts.
const listTries = 20

// errUnread: what the kernel has is not known. That says nothing of what it can
// carry.
var errUnread = errors.New("the kernel's interfaces cannot be read")

// listAddresses lists all addresses, with the names of their interfaces.
func (p *Plane) listAddresses() ([]netlink.Addr, map[int]string, error) {
	for try := 1; ; try++ {
		addrs, names, err := p.listOnce()
		switch {
		case err == nil:
			return addrs, names, nil
		case try == listTries || !errors.Is(err, netlink.ErrDumpInterrupted):
			return nil, nil, fmt.Errorf("%w: %w", errUnread, err)
		}
	}
}

func (p *Plane) listOnce() ([]netlink.Addr, map[int]string, error) {
	links, err := p.links.LinkList()
	if err != nil {
		return nil, nil, fmt.Errorf("list interfaces: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	addrs, err := p.links.AddrList(nil, unix.AF_INET)
	if err != nil {
		return nil, nil, fmt.Errorf("list addresses: %w", err)
	}
	addrs6, err := p.list6()
	if err != nil {
		return nil, nil, fmt.Errorf("list IPv6 addresses: %w", err)
	}
	return append(addrs, addrs6...), names, nil
}

func addrOf(a netlink.Addr) netip.Addr {
	addr, _ := netip.AddrFromSlice(a.IP)
	return addr.Unmap()
}

// removeAddresses removes what was shared and is to be no longer, or
// elsewhere: the address, and the MAC unless another address wants it.
func (p *Plane) removeAddresses(was, want map[netip.Addr]place) error {
	wanted := map[string]bool{}
	for _, w := range want {
		wanted[w.String()] = true
	}
	for addr, old := range was {
		if now, ok := want[addr]; ok && now.String() == old.String() {
			continue
		}
		removed, err := p.removeAddress(addr, want[addr].Interface)
		if err != nil {
			return err
		}
		for _, ifname := range removed {
			p.log.Info("address removed", "address", addr.String(), "interface", ifname)
		}
		if !wanted[old.String()] {
			p.leave(old)
			if _, err := p.removeMAC(old); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeAddress removes a shared address from all interfaces but one, and
// says from which.
func (p *Plane) removeAddress(addr netip.Addr, but string) ([]string, error) {
	addrs, names, err := p.listAddresses()
	if err != nil {
		return nil, err
	}
	var from []string
	for _, a := range addrs {
		ifname := names[a.LinkIndex]
		if addrOf(a) != addr || !ours(a) || ifname == but {
			continue
		}
		if err := p.delAddr(a, ifname); err != nil {
			return from, err
		}
		from = append(from, ifname)
	}
	return from, nil
}

func (p *Plane) delAddr(a netlink.Addr, ifname string) error {
	link := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: a.LinkIndex, Name: ifname}}
	if err := p.links.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("remove address %s from %s: %w", a.IPNet, ifname, err)
	}
	return nil
}

// settleAll settles the addresses. What was settled before and had to be done
// again is a repair, and is told. What could not be looked at is an error, and no
// refusal.
func (p *Plane) settleAll(all []address, refused refusals) error {
	var unread []error
	was := p.settled
	p.settled = map[netip.Addr]place{}
	for _, a := range all {
		done, err := p.settleTwice(a)
		where, before := was[a.Addr]
		if before && where.String() == (place{a.Interface, a.MAC}).String() && len(done) > 0 {
			p.log.Warn("changed by others: repaired", "address", a.Addr.String(), "interface", a.Interface, "what", strings.Join(done, ", "))
		}
		switch {
		case err == nil:
			p.settled[a.Addr] = place{a.Interface, a.MAC}
		case before:
			p.settled[a.Addr] = where // to be told of when it is back
		}
		switch {
		case errors.Is(err, errUnread):
			unread = append(unread, err)
		case err != nil:
			refused.add(a, err)
		}
	}
	return errors.Join(unread...)
}

// settleTwice tries again what failed, before a share is given up for it.
func (p *Plane) settleTwice(a address) ([]string, error) {
	done, err := p.settle(a)
	if err == nil || errors.Is(err, ErrNoInterface) {
		return done, err
	}
	more, err := p.settle(a)
	return append(done, more...), err
}

// settle gives the interface the shared address, its MAC and the settings
// that they need, and says what was not there. The rules stand already.
func (p *Plane) settle(a address) (done []string, err error) {
	// First, and whatever follows: an interface that it is not to be on, any more,
	// must not answer ARP for it.
	if _, err := p.removeAddress(a.Addr, a.Interface); err != nil {
		return nil, err
	}
	link, err := p.link(a.Interface)
	if err != nil {
		return nil, err
	}
	if a.Addr.Is4() && p.raiseARPAnnounce(a.Interface) {
		done = append(done, "arp_announce")
	}
	at := place{a.Interface, a.MAC}
	added, err := p.addMAC(at)
	if err != nil {
		return done, err
	}
	if added {
		done = append(done, "MAC "+a.MAC.String())
	}
	p.join(at, link.Attrs().Index)
	present, _, err := p.listAddresses()
	if err != nil {
		return done, err
	}
	for _, have := range present {
		if addrOf(have) == a.Addr && have.LinkIndex == link.Attrs().Index {
			return done, nil
		}
	}
	if err := p.addAddress(link, a.Addr); err != nil && !errors.Is(err, unix.EEXIST) {
		return done, fmt.Errorf("add address %s to %s: %w", a.Addr, a.Interface, err)
	}
	p.added++
	return append(done, "address"), nil
}

func (p *Plane) addAddress(link netlink.Link, addr netip.Addr) error {
	if addr.Is6() {
		return p.add6(link.Attrs().Index, addr)
	}
	return p.links.AddrAdd(link, &netlink.Addr{
		IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(32, 32)},
		Scope: unix.RT_SCOPE_HOST,
		Label: label(link.Attrs().Name),
	})
}

// Carrier reports whether an interface is up and hears its segment. A missing
// interface is ErrNoInterface. It is asked after every map, so it takes no lock:
// neither ours, nor, as netlink would, the kernel's over all interfaces of all
// namespaces, which whoever starts or stops a container may hold for longer
// than a lease.
func (p *Plane) Carrier(iface string) (bool, error) {
	var flags uint16
	err := p.ns.withSocket(func(fd int) error {
		r, err := unix.NewIfreq(iface)
		if err != nil {
			return err
		}
		err = unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, r)
		flags = r.Uint16()
		return err
	})
	if errors.Is(err, unix.ENODEV) {
		err = ErrNoInterface
	}
	if err != nil {
		return false, fmt.Errorf("interface %s: %w", iface, err)
	}
	return heardFlags(uint32(flags)), nil
}

// heardFlags: administratively up, and with a carrier.
func heardFlags(flags uint32) bool {
	const up = unix.IFF_UP | unix.IFF_RUNNING
	return flags&up == up
}
