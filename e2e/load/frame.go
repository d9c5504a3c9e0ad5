package load

import (
	"encoding/binary"
	"net"
	"net/netip"
	"time"
)

// Proto is what a frame carries.
type Proto string

// What the witness understands.
const (
	TCP      Proto = "tcp"
	Datagram Proto = "udp"
	Echo     Proto = "icmp"
	// unreachable is an ICMP error about a packet of the client's.
	unreachable Proto = "unreachable"
)

// TCP flags.
const (
	flagSYN = 1 << 1
	flagRST = 1 << 2
	flagACK = 1 << 4
)

// frame is what the witness takes from one frame.
type frame struct {
	at       time.Time
	from     [6]byte // the sender's MAC
	proto    Proto
	src, dst netip.AddrPort
	flags    byte   // TCP
	sequence uint32 // TCP
	id       uint64 // UDP: of the question; ICMP: identifier and sequence
	request  bool   // ICMP echo
	about    *frame // unreachable: the client's packet
}

const (
	etherLen = 14
	etherIP4 = 0x0800
	etherIP6 = 0x86dd
	etherARP = 0x0806

	fragmentHeader = 44 // of IPv6
)

// parseFrame reads an IP frame. Fragments after the first have no ports and
// are not understood.
func parseFrame(b []byte) (frame, bool) {
	if len(b) < etherLen {
		return frame{}, false
	}
	var f frame
	var ok bool
	switch binary.BigEndian.Uint16(b[12:]) {
	case etherIP4:
		f, ok = parseIP4(b[etherLen:])
	case etherIP6:
		f, ok = parseIP6(b[etherLen:])
	}
	copy(f.from[:], b[6:12])
	return f, ok
}

func parseIP4(b []byte) (frame, bool) {
	if len(b) < 20 || len(b) < int(b[0]&15)*4 || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
		return frame{}, false
	}
	src, dst := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	return parseTransport(b[9], src, dst, b[int(b[0]&15)*4:])
}

func parseIP6(b []byte) (frame, bool) {
	if len(b) < 40 {
		return frame{}, false
	}
	src, dst := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	if next := b[40:]; b[6] == fragmentHeader && len(next) >= 8 {
		if binary.BigEndian.Uint16(next[2:])>>3 != 0 {
			return frame{}, false
		}
		return parseTransport(next[0], src, dst, next[8:])
	}
	return parseTransport(b[6], src, dst, b[40:])
}

// parseTransport reads the header after IP's. Eight bytes must be there, as
// in the packet that an ICMP error quotes.
func parseTransport(protocol byte, src, dst netip.Addr, b []byte) (frame, bool) {
	if len(b) < 8 {
		return frame{}, false
	}
	f := frame{src: netip.AddrPortFrom(src, binary.BigEndian.Uint16(b)), dst: netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:]))}
	switch protocol {
	case 6:
		f.proto, f.sequence = TCP, binary.BigEndian.Uint32(b[4:])
		if len(b) > 13 {
			f.flags = b[13]
		}
	case 17:
		f.proto = Datagram
		f.id, _, _ = parseEcho(b[8:])
	case 1, 58:
		return parseICMP(protocol, src, dst, b)
	default:
		return frame{}, false
	}
	return f, true
}

// parseICMP reads echoes and "unreachable".
func parseICMP(protocol byte, src, dst netip.Addr, b []byte) (frame, bool) {
	f := frame{proto: Echo, src: netip.AddrPortFrom(src, 0), dst: netip.AddrPortFrom(dst, 0)}
	f.id = uint64(binary.BigEndian.Uint32(b[4:]))
	parse := parseIP4
	if protocol == 58 {
		parse = parseIP6
	}
	switch {
	case protocol == 1 && b[0] == 8, protocol == 58 && b[0] == 128:
		f.request = true
	case protocol == 1 && b[0] == 0, protocol == 58 && b[0] == 129:
	case protocol == 1 && b[0] == 3, protocol == 58 && b[0] == 1:
		about, ok := parse(b[8:])
		f.proto, f.about = unreachable, &about
		return f, ok
	default:
		return frame{}, false
	}
	return f, true
}

// ARP is an ARP frame that the client received or sent.
type ARP struct {
	From      net.HardwareAddr // the frame's sender
	Reply     bool
	SenderMAC net.HardwareAddr
	Sender    netip.Addr
	Target    netip.Addr
}

// parseARP reads an ARP frame for IPv4.
func parseARP(b []byte) (ARP, bool) {
	if len(b) < etherLen+28 || binary.BigEndian.Uint16(b[12:]) != etherARP {
		return ARP{}, false
	}
	p := b[etherLen:]
	return ARP{
		From: net.HardwareAddr(append([]byte(nil), b[6:12]...)), Reply: p[7] == 2,
		SenderMAC: net.HardwareAddr(append([]byte(nil), p[8:14]...)),
		Sender:    netip.AddrFrom4([4]byte(p[14:18])), Target: netip.AddrFrom4([4]byte(p[24:28])),
	}, true
}
