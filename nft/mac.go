package nft

import (
	"net"
	"net/netip"
)

// DefaultMAC derives the multicast cluster MAC of a shared address.
//
// For IPv4 it is 01:00:5e and the low 23 bits of the address, so that an IGMP
// join can name it; what would fall among the protocols of 224.0.0.x
// (01:00:5e:00:00:…) gets bit 0x40 of the fourth octet.
//
// For IPv6 it is 33:33 and the low 32 bits with the highest one set, which is
// the range of groups that nobody has assigned (RFC 3307); what would fall
// among the solicited-node groups (33:33:ff:…) loses bit 0x40 of the third
// octet.
func DefaultMAC(a netip.Addr) net.HardwareAddr {
	a = a.Unmap()
	if a.Is6() {
		b := a.As16()
		mac := net.HardwareAddr{0x33, 0x33, b[12] | 0x80, b[13], b[14], b[15]}
		if mac[2] == 0xff {
			mac[2] = 0xbf
		}
		return mac
	}
	b := a.As4()
	mac := net.HardwareAddr{0x01, 0x00, 0x5e, b[1] & 0x7f, b[2], b[3]}
	if mac[3] == 0 && mac[4] == 0 {
		mac[3] |= 0x40
	}
	return mac
}

// StealthMAC derives the unicast cluster MAC of a shared address: 02, a byte
// that tells the families apart, and the low 32 bits.
func StealthMAC(a netip.Addr) net.HardwareAddr {
	a = a.Unmap()
	b := a.AsSlice()
	mac := append(net.HardwareAddr{0x02, 0x04}, b[len(b)-4:]...)
	if a.Is6() {
		mac[1] = 0x06
	}
	return mac
}

// stealth reports whether a cluster MAC is a stealth one.
func stealth(mac net.HardwareAddr) bool { return mac[0]&1 == 0 }

// GroupOf is a multicast group whose frames have the MAC: for IPv4 an
// administratively scoped one (239.x), for IPv6 a transient one of the site.
// Switches that snoop learn from a membership in it where the MAC is wanted.
// The zero Addr is returned for a MAC that no group has.
func GroupOf(mac net.HardwareAddr) netip.Addr {
	switch {
	case mac[0] == 0x01 && mac[1] == 0x00 && mac[2] == 0x5e && mac[3] < 0x80:
		return netip.AddrFrom4([4]byte{239, mac[3], mac[4], mac[5]})
	case mac[0] == 0x33 && mac[1] == 0x33:
		return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x15, 12: mac[2], 13: mac[3], 14: mac[4], 15: mac[5]})
	}
	return netip.Addr{}
}
