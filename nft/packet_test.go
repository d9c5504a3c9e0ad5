package nft

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"earshot/hashmode"
	"earshot/nft/nfttest"
)

// drawPacket draws a packet of any protocol to the shared address.
func drawPacket(t *rapid.T, v6 bool) nfttest.Packet {
	p := nfttest.Packet{
		From:     netip.AddrPortFrom(remote(v6, rapid.Uint32Range(1, 1<<16).Draw(t, "client")), uint16(rapid.IntRange(1024, 65535).Draw(t, "port"))),
		Protocol: rapid.SampledFrom([]uint8{nfttest.TCP, nfttest.UDP, nfttest.DCCP, nfttest.SCTP, nfttest.UDPLite, nfttest.ESP, nfttest.AH, nfttest.GRE, nfttest.ICMPOf(sharedOf(v6)), 253}).Draw(t, "protocol"),
		Flags:    rapid.SampledFrom([]uint8{nfttest.SYN, nfttest.ACK, nfttest.SYN | nfttest.ACK, nfttest.SYN | nfttest.RST, nfttest.FIN}).Draw(t, "flags"),
		Options:  rapid.Bool().Draw(t, "options"),
		Payload:  make([]byte, 40),
	}
	p.To = netip.AddrPortFrom(sharedOf(v6), uint16(rapid.SampledFrom([]int{80, 443}).Draw(t, "service's port")))
	switch p.Protocol {
	case nfttest.ICMP, nfttest.ICMP6:
		options := p.Options
		p = nfttest.Echo(p.From, p.To.Addr(), rapid.Uint16().Draw(t, "id"), 1)
		p.Options = options
	case nfttest.AH:
		p.Payload[0], p.Payload[1] = nfttest.TCP, 4 // 24 bytes, then a TCP header
		copy(p.Payload[24:], []byte{0x12, 0x34, 0, 80})
	case nfttest.GRE:
		if rapid.Bool().Draw(t, "PPTP") {
			copy(p.Payload, []byte{0x20, 1, 0x88, 0x0b, 0, 28, 0x12, 0x34})
		}
	case nfttest.SCTP:
		p.Payload = append([]byte{1, 0, 0, 20, 0, 0, 0, 7}, make([]byte, 12)...)
	}
	return p
}

// trackedAs is a packet's flow by the rules of conntrack, and the protocol
// that the rules see.
func trackedAs(p nfttest.Packet) Flow {
	f := flowOf(p)
	switch {
	case p.Protocol == nfttest.AH && p.From.Addr().Is6():
		f = Flow{TCP, netip.AddrPortFrom(p.From.Addr(), 0x1234), netip.AddrPortFrom(p.To.Addr(), 80)}
	case p.Protocol == nfttest.GRE && p.Payload[1] == 1:
		f.Server = netip.AddrPortFrom(p.To.Addr(), 0x1234)
	case p.Protocol == 253:
		f.Client, f.Server = netip.AddrPortFrom(p.From.Addr(), 0), netip.AddrPortFrom(p.To.Addr(), 0)
	}
	return f
}

const etherHeader = 14

// What is read of a packet is what was put into it, for every protocol; of
// what is cut off nothing is read, or the same.
func TestReadPacket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v6 := rapid.Bool().Draw(t, "IPv6")
		p := drawPacket(t, v6)
		b := p.Frames(make(net.HardwareAddr, 6), make(net.HardwareAddr, 6))[0][etherHeader:]
		got, ok := readPacket(b)
		opens := p.Protocol == nfttest.TCP && p.Flags == nfttest.SYN
		want := arrival{trackedAs(p), Protocol(p.Protocol), opens}
		if !ok || got != want {
			t.Fatalf("%+v is read as %+v, %v", p, got, ok)
		}
		for n := range b {
			if short, ok := readPacket(slices.Clip(b[:n])); ok && short != want && p.Protocol != nfttest.GRE {
				t.Fatalf("cut to %d bytes it is read as %+v, want %+v", n, short, want)
			}
		}
	})
}

// No bytes make it panic.
func FuzzReadPacket(f *testing.F) {
	for _, v6 := range []bool{false, true} {
		for _, p := range []nfttest.Packet{tcp(clientOfIP(v6, ownAll().Hash, 3, 0), nfttest.SYN), esp(clientOfIP(v6, ownAll().Hash, 3, 0))} {
			p.Options = true
			f.Add(p.Frames(make(net.HardwareAddr, 6), make(net.HardwareAddr, 6))[0][etherHeader:])
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, ok := readPacket(b); ok && !a.flow.Client.IsValid() {
			t.Error("a packet of nobody")
		}
	})
}

// The bucket and the flow of what is held are those of the kernel: held is
// what its rules put into a bucket to take, and once it has passed, conntrack
// has the flow.
func TestHeldPacketsAreAsTheKernelSeesThem(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		p := w.plane()
		s := webOf(v6, hashmode.Set{}, hashmode.Set{}, hashmode.Set{})
		s.Take, s.Ports, s.Hash.Mode = buckets(0, 7), nil, hashmode.SourceIPSourcePortDestPort
		leasedHold(t, p, s)
		k, o := w.keep(p), w.observer()
		all, err := addresses([]Service{s})
		must(t, err)
		tracked, held := map[uint8]int{}, map[uint8]int{}
		rapid.Check(t, func(r *rapid.T) {
			packet := drawPacket(r, v6)
			_, spec := all[0].decider(packet.Protocol, packet.To.Port())
			bucket := spec.Bucket(packet.From, packet.To.Port())
			got, waiting := k.send(o, packet)
			switch {
			case got == "pass": // of a flow that another draw has opened
				return
			case packet.Protocol == nfttest.TCP && packet.Flags != nfttest.SYN && got == "drop":
				return // of a flow of the old owner
			case (got == "hold") != s.Take.Has(bucket):
				r.Fatalf("%+v of bucket %d: %s", packet, bucket, got)
			case got == "drop":
				return
			}
			if h := waiting[0]; h.Bucket != bucket || h.Flow != trackedAs(packet) {
				r.Fatalf("%+v of bucket %d is held as %+v", packet, bucket, h)
			}
			k.decide(Pass, waiting...)
			held[packet.Protocol]++
			known, err := p.Known([]Flow{waiting[0].Flow})
			must(t, err)
			if known[0] {
				tracked[packet.Protocol]++
			} else if slices.Contains([]uint8{nfttest.UDP, nfttest.SCTP, nfttest.ESP, nfttest.GRE, nfttest.ICMP, nfttest.ICMP6, 253}, packet.Protocol) {
				r.Fatalf("%+v has passed, but its flow is not known", waiting[0])
			}
		})
		t.Logf("held %v, tracked of these %v", held, tracked)
	})
}

func leasedHold(t testing.TB, p *Plane, services ...Service) {
	t.Helper()
	must(t, p.Apply(heldBy(1, services...)))
	leaseLong(t, p)
}
