package nft

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"earshot/hashmode"
	"earshot/nft/nfttest"
)

var badFrames = flag.Int("badframes", 8000, "bad frames to send, for each family")

// Bad frames (truncated, with wrong lengths, odd options and headers,
// fragments that overlap, random bytes) crash nothing, make no answer without
// a lease (I4), and leave the service as it was (I7).
func TestBadFrames(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		w.serve()
		p := w.plane()
		s := webOf(v6, all16(), hashmode.Set{}, hashmode.Set{})
		rs := Ruleset{Index: 1, Services: []Service{s}}
		must(t, p.Apply(rs))
		o := w.observer()
		warned := w.kernelWarnings()
		bad := newBadFrames(w, s)
		conn, _ := w.raw()
		silence := w.voice(s)
		for range *badFrames / 4 {
			bad.send(conn)
		}
		if said := silence(); said != "" {
			t.Errorf("without a lease the node said %s", said)
		}
		must(t, p.Lease(time.Now().Add(time.Hour)))
		begun := time.Now()
		for range *badFrames {
			bad.send(conn)
		}
		t.Logf("%.0f frames/s, seed %d", float64(*badFrames)/time.Since(begun).Seconds(), bad.seed)
		w.handshake(o, clientOfIP(v6, s.Hash, 3, 0))
		w.mustHold(rs)
		if text := warned(); text != "" {
			t.Errorf("the kernel warned: %s", text)
		}
	})
}

// voice returns what tells of a frame, since, that came from the address or
// said where it is.
func (w *world) voice(s Service) func() string {
	w.t.Helper()
	conn, _ := w.raw()
	return func() string {
		buf := make([]byte, 70000)
		must(w.t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		for {
			n, from, err := conn.ReadFrom(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return ""
			}
			must(w.t, err)
			var frame ethernet.Frame
			if from.(*packet.Addr).HardwareAddr.String() != w.nodeMAC.String() || frame.UnmarshalBinary(buf[:n]) != nil {
				continue
			}
			source := buf[26:30]
			if s.Address.Is6() {
				source = buf[22:38]
			}
			if addr, _ := netip.AddrFromSlice(source); addr == s.Address || (asker{address: address{Addr: s.Address}}).claim(frame) != nil {
				return fmt.Sprintf("%x", buf[:n])
			}
		}
	}
}

// kernelWarnings returns what tells of the kernel's warnings since: by the
// taint that they leave, and by its log where that may be read.
func (w *world) kernelWarnings() func() string {
	w.t.Helper()
	tainted := func() int {
		v, err := readInt("/proc/sys/kernel/tainted")
		must(w.t, err)
		return v
	}
	before := tainted()
	log, err := os.OpenFile("/dev/kmsg", os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		w.t.Logf("kernel log not looked at: %v", err)
	} else {
		w.t.Cleanup(func() { log.Close() })
		_, err = log.Seek(0, 2)
		must(w.t, err)
	}
	return func() string {
		if now := tainted(); now != before {
			return "tainted"
		}
		buf := make([]byte, 8192)
		for log != nil {
			must(w.t, log.SetReadDeadline(time.Now().Add(time.Millisecond)))
			n, err := log.Read(buf)
			if err != nil {
				break
			}
			for _, word := range []string{"WARNING", "BUG", "Oops", "Call Trace", "general protection"} {
				if strings.Contains(string(buf[:n]), word) {
					return string(buf[:n])
				}
			}
		}
		return ""
	}
}

// badFrameMaker makes bad frames from good ones.
type badFrameMaker struct {
	w    *world
	s    Service
	seed uint64
	r    *rand.Rand
}

func newBadFrames(w *world, s Service) *badFrameMaker {
	seed := rand.Uint64()
	return &badFrameMaker{w, s, seed, rand.New(rand.NewPCG(seed, 0))}
}

func (b *badFrameMaker) send(conn *packet.Conn) {
	const header = 14
	frame := b.spoil(b.good())
	for len(frame) < header {
		frame = append(frame, 0)
	}
	// What the client's own kernel or interface refuses to send is not sent.
	_, _ = conn.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])})
}

// good is a frame of some kind to the shared address.
func (b *badFrameMaker) good() []byte {
	v6 := b.s.Address.Is6()
	client := netip.AddrPortFrom(remote(v6, b.r.Uint32N(1<<20)), uint16(1024+b.r.IntN(60000)))
	protocols := []uint8{6, 17, 33, 132, 136, 0, 1, 43, 44, 47, 50, 51, 58, 59, 60, 135, 139, 140}
	p := nfttest.Packet{
		From: client, To: to(client, 80), Protocol: protocols[b.r.IntN(len(protocols))],
		Flags: uint8(b.r.Uint32()), Payload: b.bytes(8 + b.r.IntN(120)), Options: b.r.IntN(3) == 0, ID: uint16(b.r.IntN(8)),
	}
	switch b.r.IntN(6) {
	case 0:
		p.Fragments = 8
	case 1:
		p = nfttest.TooBig(remote(v6, b.r.Uint32N(1<<20)), nfttest.Packet{From: to(client, 80), To: client, Protocol: p.Protocol, Payload: p.Payload})
	case 2:
		if v6 {
			p = nfttest.Solicit(client, b.s.Address, b.w.clientMAC)
			p.Payload[0] += byte(b.r.IntN(3)) // or an advertisement, or a redirect
		}
	}
	frames := p.Frames(b.w.clientMAC, b.s.MAC)
	return frames[b.r.IntN(len(frames))]
}

// spoil does one or two bad things to a frame.
func (b *badFrameMaker) spoil(f []byte) []byte {
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
			if b.s.Address.Is6() {
				at = 4
			}
			binary.BigEndian.PutUint16(ip[at:], uint16(b.r.Uint32()))
		case 2: // of the header, and its version
			ip[0] = byte(b.r.Uint32())
		case 3: // odd options, or a chain of odd headers
			at := 20 + b.r.IntN(len(ip)-19)
			f = append(append(append([]byte{}, f[:eth+at]...), b.bytes(4*b.r.IntN(11))...), ip[at:]...)
			if !b.s.Address.Is6() {
				f[eth] = 0x40 | byte(5+b.r.IntN(11))
			}
		case 4: // fragments that overlap, or are of no length
			if b.s.Address.Is6() {
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
			if b.s.Address.Is6() && len(ip) >= 40 {
				copy(ip[24:], b.s.Address.AsSlice())
			}
		}
		if !b.s.Address.Is6() && b.r.IntN(4) > 0 {
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

func (b *badFrameMaker) bytes(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(b.r.Uint32())
	}
	return out
}
