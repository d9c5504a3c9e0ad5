package nft

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// arrival is what of a packet decides about it.
type arrival struct {
	flow Flow
	// protocol that the rules see: of IPv6, they take an authentication header
	// for the transport header, conntrack looks behind it.
	protocol Protocol
	opens    bool
}

// readPacket reads the head of an IP packet, whole or reassembled, as the
// kernel's rules and its conntrack do. ok is false for what is cut short or no
// IP: the kernel has no use for such a packet either.
func readPacket(b []byte) (a arrival, ok bool) {
	if len(b) < 20 {
		return a, false
	}
	if b[0]>>4 == 6 {
		return readPacket6(b)
	}
	header := int(b[0]&15) * 4
	if b[0]>>4 != 4 || header < 20 || len(b) < header {
		return a, false
	}
	client, server := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	return arrivalOf(Protocol(b[9]), Protocol(b[9]), client, server, b[header:])
}

// Extension headers of IPv6, which stand between it and the transport header.
const (
	hopOptions     = 0
	routingHeader  = 43
	fragmentHeader = 44
	authentication = 51
	destOptions    = 60
)

func readPacket6(b []byte) (a arrival, ok bool) {
	const header = 40
	if len(b) < header {
		return a, false
	}
	client, server := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	next, seen := b[6], Protocol(0)
	for b = b[header:]; ; {
		var length int
		switch next {
		case hopOptions, routingHeader, destOptions:
			length = 8
			if len(b) >= length {
				length += int(b[1]) * 8
			}
		case fragmentHeader:
			length = 8
		case authentication:
			seen, length = authentication, 8
			if len(b) >= length {
				length += int(b[1]) * 4
			}
		default:
			if seen == 0 {
				seen = Protocol(next)
			}
			return arrivalOf(seen, Protocol(next), client, server, b)
		}
		if len(b) < length {
			return a, false
		}
		next, b = b[0], b[length:]
	}
}

// arrivalOf reads the transport header.
func arrivalOf(seen, protocol Protocol, client, server netip.Addr, transport []byte) (a arrival, ok bool) {
	var from, to uint16
	need := 0
	switch {
	case protocol == TCP:
		need = 14
	case protocol.hasPorts():
		need = 4
	case protocol == unix.IPPROTO_ICMP || protocol == unix.IPPROTO_ICMPV6:
		need = 6
	}
	if len(transport) < need {
		return a, false
	}
	big := binary.BigEndian
	switch {
	case protocol.hasPorts():
		from, to = big.Uint16(transport), big.Uint16(transport[2:])
	case need == 6:
		from, to = big.Uint16(transport[4:]), big.Uint16(transport) // identifier; type and code
	case protocol == unix.IPPROTO_GRE && len(transport) >= 8 && transport[1]&7 == 1:
		to = big.Uint16(transport[6:]) // the call of PPTP
	}
	a = arrival{
		flow:     Flow{protocol, netip.AddrPortFrom(client, from), netip.AddrPortFrom(server, to)},
		protocol: seen,
	}
	if seen == TCP {
		a.opens = transport[13]&(flagFIN|flagSYN|flagRST|flagACK) == flagSYN
	}
	return a, true
}

// dport is the port that the rules see.
func (a arrival) dport() uint16 {
	if a.protocol.hasPorts() {
		return a.flow.Server.Port()
	}
	return 0
}
