package nfttest

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
)

// BadFrames makes bad frames from good ones: truncated, with wrong lengths, odd
// options and headers, fragments that overlap, random bytes.
type BadFrames struct {
	Seed uint64

	address  netip.Addr // that they go to
	from, to net.HardwareAddr
	client   func(uint32) netip.Addr
	r        *rand.Rand
}

// NewBadFrames returns a maker of bad frames to an address; client makes the
// addresses that they come from out of numbers below 1<<20.
func NewBadFrames(address netip.Addr, from, to net.HardwareAddr, client func(uint32) netip.Addr) *BadFrames {
	seed := rand.Uint64()
	return &BadFrames{seed, address, from, to, client, rand.New(rand.NewPCG(seed, 0))}
}

// Next returns a frame, at least as long as Ethernet's header.
func (b *BadFrames) Next() []byte {
	const header = 14
	frame := b.spoil(b.good())
	for len(frame) < header {
		frame = append(frame, 0)
	}
	return frame
}

// good is a frame of some kind to the shared address.
func (b *BadFrames) good() []byte {
	v6 := b.address.Is6()
	client := netip.AddrPortFrom(b.client(b.r.Uint32N(1<<20)), uint16(1024+b.r.IntN(60000)))
	protocols := []uint8{6, 17, 33, 132, 136, 0, 1, 43, 44, 47, 50, 51, 58, 59, 60, 135, 139, 140}
	p := Packet{
		From: client, To: netip.AddrPortFrom(b.address, 80), Protocol: protocols[b.r.IntN(len(protocols))],
		Flags: uint8(b.r.Uint32()), Payload: b.bytes(8 + b.r.IntN(120)), Options: b.r.IntN(3) == 0, ID: uint16(b.r.IntN(8)),
	}
	switch b.r.IntN(6) {
	case 0:
		p.Fragments = 8
	case 1:
		p = TooBig(b.client(b.r.Uint32N(1<<20)), Packet{From: netip.AddrPortFrom(b.address, 80), To: client, Protocol: p.Protocol, Payload: p.Payload})
	case 2:
		if v6 {
			p = Solicit(client, b.address, b.from)
			p.Payload[0] += byte(b.r.IntN(3)) // or an advertisement, or a redirect
		}
	}
	frames := p.Frames(b.from, b.to)
	return frames[b.r.IntN(len(frames))]
}

// spoil does one or two bad things to a frame.
func (b *BadFrames) spoil(f []byte) []byte {
	const eth = 14
	for range 1 + b.r.IntN(2) {
		ip := f[min(eth, len(f)):]
		if len(ip) < 20 {
			return f
		}
		switch b.r.IntN(7) {
		case 0: // truncated
			f = f[:eth+b.r.IntN(len(ip))]
		case 1: // wrong lengths
			at := 2
			if b.address.Is6() {
				at = 4
			}
			binary.BigEndian.PutUint16(ip[at:], uint16(b.r.Uint32()))
		case 2: // of the header, and its version
			ip[0] = byte(b.r.Uint32())
		case 3: // odd options, or a chain of odd headers
			at := 20 + b.r.IntN(len(ip)-19)
			f = append(append(append([]byte{}, f[:eth+at]...), b.bytes(4*b.r.IntN(11))...), ip[at:]...)
			if !b.address.Is6() {
				f[eth] = 0x40 | byte(5+b.r.IntN(11))
			}
		case 4: // fragments that overlap, or are of no length
			if b.address.Is6() {
				ip[6] = 44
				if len(ip) >= 48 {
					binary.BigEndian.PutUint16(ip[42:], uint16(b.r.IntN(20))<<3|uint16(b.r.IntN(2)))
				}
			} else {
				binary.BigEndian.PutUint16(ip[6:], uint16(b.r.IntN(20))|uint16(b.r.IntN(2))<<13)
			}
		case 5: // flipped bits, not in the addresses
			ip[b.r.IntN(8)] ^= 1 << b.r.IntN(8)
		case 6: // random bytes after the header
			copy(ip[20:], b.bytes(len(ip)-20))
			if b.address.Is6() && len(ip) >= 40 {
				copy(ip[24:], b.address.AsSlice())
			}
		}
		if !b.address.Is6() && b.r.IntN(4) > 0 {
			mendChecksum(f[eth:])
		}
	}
	return f
}

// mendChecksum lets an IPv4 header come further than its checksum.
func mendChecksum(ip []byte) {
	if len(ip) == 0 {
		return
	}
	n := int(ip[0]&0x0f) * 4
	if n < 20 || n > len(ip) {
		return
	}
	ip[10], ip[11] = 0, 0
	sum := uint32(0)
	for i := 0; i < n; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum))
}

func (b *BadFrames) bytes(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(b.r.Uint32())
	}
	return out
}
