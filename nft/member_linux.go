package nft

import "golang.org/x/sys/unix"

// A member is the membership in the group that a cluster MAC belongs to.
// Snooping switches learn from its reports where the MAC is wanted, and the
// kernel answers their queries. The socket holds it: it ends with the
// process, and switches then forget the port after some minutes.
type member struct {
	fd    int
	index int // of the interface
}

// join holds the membership for a place. Without it the service works where
// no switch snoops, so that a failure is only told. The caller holds mu.
func (p *Plane) join(at place, index int) {
	group := GroupOf(at.MAC)
	if !group.IsValid() {
		return
	}
	if m, ok := p.members[at.String()]; ok && m.index == index {
		return
	}
	p.leave(at) // of an interface that was made anew
	family := unix.AF_INET
	if group.Is6() {
		family = unix.AF_INET6
	}
	fd := -1
	err := p.ns.do(func() error {
		var err error
		if fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if group.Is6() {
			return unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(index)})
		}
		return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: group.As4(), Ifindex: int32(index)})
	})
	if err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		p.log.Warn("group not joined: switches that snoop may not deliver", "interface", at.Interface, "group", group.String(), "error", err)
		return
	}
	p.members[at.String()] = member{fd, index}
}

// leave ends a membership, if there is one. The caller holds mu.
func (p *Plane) leave(at place) {
	if m, ok := p.members[at.String()]; ok {
		unix.Close(m.fd)
		delete(p.members, at.String())
	}
}
