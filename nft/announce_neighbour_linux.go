package nft

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Offsets in a frame with an IPv6 packet without extension headers.
const (
	offsetNextHeader = 14 + 6
	offsetMessage    = 14 + 40
	offsetTarget     = offsetMessage + 8
)

// listenNeighbour hears neighbour advertisements of the address alone: the
// segment may be busy with other packets.
func listenNeighbour(ifi *net.Interface, about netip.Addr) (*packet.Conn, error) {
	b := about.As16()
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: offsetNextHeader, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: 7},
		bpf.LoadAbsolute{Off: offsetMessage, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: advertisement, SkipTrue: 5},
		// The interface part of the target; the rest is looked at outside.
		bpf.LoadAbsolute{Off: offsetTarget + 12, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(b[12:]), SkipTrue: 3},
		bpf.LoadAbsolute{Off: offsetTarget + 8, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(b[8:12]), SkipTrue: 1},
		bpf.RetConstant{Val: 0xffff},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return nil, err
	}
	return packet.Listen(ifi, packet.Raw, unix.ETH_P_IPV6, &packet.Config{Filter: filter})
}

func (a asker) announceNeighbour() error {
	return a.sendNeighbour(a.Addr, netip.IPv6LinkLocalAllNodes(), &ndp.NeighborAdvertisement{
		Override:      true,
		TargetAddress: a.Addr,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: a.MAC}},
	})
}

// askNeighbour sends what duplicate address detection sends (RFC 4862).
func (a asker) askNeighbour() error {
	group, err := ndp.SolicitedNodeMulticast(a.Addr)
	if err != nil {
		return err
	}
	return a.sendNeighbour(netip.IPv6Unspecified(), group, &ndp.NeighborSolicitation{TargetAddress: a.Addr})
}

func (a asker) sendNeighbour(from, group netip.Addr, m ndp.Message) error {
	message, err := ndp.MarshalMessageChecksum(m, from, group)
	if err != nil {
		return err
	}
	payload := []byte{0x60, 0, 0, 0, 0, 0, unix.IPPROTO_ICMPV6, ndp.HopLimit}
	binary.BigEndian.PutUint16(payload[4:], uint16(len(message)))
	payload = append(payload, from.AsSlice()...)
	payload = append(payload, group.AsSlice()...)
	b := group.As16()
	to := net.HardwareAddr{0x33, 0x33, b[12], b[13], b[14], b[15]}
	return a.send(to, ethernet.EtherTypeIPv6, append(payload, message...))
}

func (a asker) neighbourClaim(frame ethernet.Frame) net.HardwareAddr {
	const header = 40
	if len(frame.Payload) < header {
		return nil
	}
	length := int(binary.BigEndian.Uint16(frame.Payload[4:]))
	message, err := ndp.ParseMessage(frame.Payload[header:min(header+length, len(frame.Payload))])
	na, ok := message.(*ndp.NeighborAdvertisement)
	if err != nil || !ok || na.TargetAddress != a.Addr {
		return nil
	}
	for _, o := range na.Options {
		if mac, ok := o.(*ndp.LinkLayerAddress); ok && mac.Direction == ndp.Target {
			return mac.Addr
		}
	}
	return nil
}
