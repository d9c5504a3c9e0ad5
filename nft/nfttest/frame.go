package nfttest

import (
	"encoding/binary"
	"hash/crc32"
	"net"
	"net/netip"
)

// TCP header flags.
const (
	FIN = 0x01
	SYN = 0x02
	RST = 0x04
	PSH = 0x08
	ACK = 0x10
)

// Protocol numbers.
const (
	ICMP    = 1
	TCP     = 6
	UDP     = 17
	DCCP    = 33
	GRE     = 47
	ESP     = 50
	AH      = 51
	ICMP6   = 58
	SCTP    = 132
	UDPLite = 136

	fragmentHeader = 44
	destOptions    = 60
)

// A Packet is an IPv4 or IPv6 packet to send.
type Packet struct {
	From, To netip.AddrPort
	Protocol uint8  // of the payload
	Flags    uint8  // TCP flags
	Seq, Ack uint32 // TCP
	Payload  []byte // after the transport header; for ICMP all of it
	// Fragments splits the IP payload after so many bytes (a multiple of 8).
	Fragments int
	ID        uint16 // of the fragments
	// Options puts IPv4 options or an IPv6 header of them into the packet.
	Options bool
}

// Frames returns the Ethernet frames of the packet.
func (p Packet) Frames(src, dst net.HardwareAddr) [][]byte {
	kind, packet := uint16(0x0800), p.ip4
	if p.From.Addr().Is6() {
		kind, packet = 0x86dd, p.ip6
	}
	body := p.transport()
	if p.Fragments == 0 {
		return [][]byte{ethernet(src, dst, kind, packet(body, 0, false))}
	}
	return [][]byte{
		ethernet(src, dst, kind, packet(body[:p.Fragments], 0, true)),
		ethernet(src, dst, kind, packet(body[p.Fragments:], p.Fragments, false)),
	}
}

func ethernet(src, dst net.HardwareAddr, proto uint16, payload []byte) []byte {
	frame := append(append([]byte{}, dst...), src...)
	return append(binary.BigEndian.AppendUint16(frame, proto), payload...)
}

func (p Packet) ip4(body []byte, offset int, more bool) []byte {
	h := make([]byte, 20)
	if p.Options {
		h = append(h, 1, 1, 1, 0) // no operation, thrice; end
	}
	h[0], h[8], h[9] = 0x40|byte(len(h)/4), 64, p.Protocol
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(body)))
	binary.BigEndian.PutUint16(h[4:], p.ID)
	binary.BigEndian.PutUint16(h[6:], uint16(offset/8))
	if more {
		h[6] |= 0x20
	}
	copy(h[12:], p.From.Addr().AsSlice())
	copy(h[16:], p.To.Addr().AsSlice())
	binary.BigEndian.PutUint16(h[10:], ^fold(sum(h)))
	return append(h, body...)
}

func (p Packet) ip6(body []byte, offset int, more bool) []byte {
	next := p.Protocol
	if p.Options {
		body = append([]byte{next, 0, 1, 4, 0, 0, 0, 0}, body...) // padding
		next = destOptions
	}
	if offset > 0 || more {
		h := []byte{next, 0, 0, 0, 0, 0, byte(p.ID >> 8), byte(p.ID)}
		binary.BigEndian.PutUint16(h[2:], uint16(offset))
		if more {
			h[3] |= 1
		}
		body = append(h, body...)
		next = fragmentHeader
	}
	h := make([]byte, 40)
	h[0], h[6], h[7] = 0x60, next, 64
	if p.Protocol == ICMP6 {
		h[7] = 255 // as neighbour discovery asks
	}
	binary.BigEndian.PutUint16(h[4:], uint16(len(body)))
	copy(h[8:], p.From.Addr().AsSlice())
	copy(h[24:], p.To.Addr().AsSlice())
	return append(h, body...)
}

func (p Packet) transport() []byte {
	var h []byte
	var at int // of the checksum
	switch p.Protocol {
	case TCP:
		h, at = make([]byte, 20), 16
		binary.BigEndian.PutUint32(h[4:], p.Seq)
		binary.BigEndian.PutUint32(h[8:], p.Ack)
		h[12], h[13] = 5<<4, p.Flags
		binary.BigEndian.PutUint16(h[14:], 65535)
	case UDP:
		h, at = make([]byte, 8), 6
		binary.BigEndian.PutUint16(h[4:], uint16(8+len(p.Payload)))
	case UDPLite:
		h, at = make([]byte, 8), 6
	case DCCP:
		h, at = make([]byte, 16), 6
		h[4], h[8] = 4, 1 // data offset; a request with long sequence numbers
	case SCTP:
		h = make([]byte, 12)
		binary.BigEndian.PutUint16(h, p.From.Port())
		binary.BigEndian.PutUint16(h[2:], p.To.Port())
		body := append(h, p.Payload...)
		binary.LittleEndian.PutUint32(body[8:], crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
		return body
	case ICMP:
		body := append([]byte{}, p.Payload...)
		binary.BigEndian.PutUint16(body[2:], ^fold(sum(body)))
		return body
	case ICMP6:
		body := append([]byte{}, p.Payload...)
		binary.BigEndian.PutUint16(body[2:], ^fold(p.pseudo(body)+sum(body)))
		return body
	default:
		return append([]byte{}, p.Payload...)
	}
	binary.BigEndian.PutUint16(h, p.From.Port())
	binary.BigEndian.PutUint16(h[2:], p.To.Port())
	body := append(h, p.Payload...)
	binary.BigEndian.PutUint16(body[at:], ^fold(p.pseudo(body)+sum(body)))
	return body
}

// pseudo is the sum of the pseudo header.
func (p Packet) pseudo(body []byte) uint32 {
	return sum(p.From.Addr().AsSlice()) + sum(p.To.Addr().AsSlice()) + uint32(p.Protocol) + uint32(len(body))
}

// ICMPOf is the protocol number of ICMP beside an address.
func ICMPOf(a netip.Addr) uint8 {
	if a.Is6() {
		return ICMP6
	}
	return ICMP
}

// Echo is an ICMP echo request.
func Echo(from netip.AddrPort, to netip.Addr, id, seq uint16) Packet {
	b := make([]byte, 16)
	b[0] = 8
	if to.Is6() {
		b[0] = 128
	}
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], seq)
	return Packet{From: from, To: netip.AddrPortFrom(to, 0), Protocol: ICMPOf(to), Payload: b}
}

// TooBig is a router's ICMP error about a packet: its path takes 1,280 bytes.
func TooBig(router netip.Addr, about Packet) Packet {
	b := []byte{3, 4, 0, 0, 0, 0, 0x05, 0x00}
	ip := about.ip4
	if router.Is6() {
		b, ip = []byte{2, 0, 0, 0, 0, 0, 0x05, 0x00}, about.ip6
	}
	quoted := ip(about.transport(), 0, false)
	return Packet{
		From: netip.AddrPortFrom(router, 0), To: netip.AddrPortFrom(about.From.Addr(), 0), Protocol: ICMPOf(router),
		Payload: append(b, quoted[:min(len(quoted), 60)]...),
	}
}

// Solicit is a neighbour solicitation from a host with the MAC, to the
// address itself, as a host sends it that knows the address already.
func Solicit(from netip.AddrPort, about netip.Addr, mac net.HardwareAddr) Packet {
	b := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, about.AsSlice()...)
	return Packet{From: from, To: netip.AddrPortFrom(about, 0), Protocol: ICMP6, Payload: append(append(b, 1, 1), mac...)}
}

func sum(b []byte) uint32 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		s += uint32(b[len(b)-1]) << 8
	}
	return s
}

func fold(s uint32) uint16 {
	for s>>16 != 0 {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}
