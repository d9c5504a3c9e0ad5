package nft

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// listenARP hears ARP packets whose sender says that it has the address: a
// segment may be full of others.
func listenARP(ifi *net.Interface, about netip.Addr) (*packet.Conn, error) {
	const offsetSender = 14 + 14
	b := about.As4()
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: offsetSender, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(b[:]), SkipTrue: 1},
		bpf.RetConstant{Val: 0xffff},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return nil, err
	}
	return packet.Listen(ifi, packet.Raw, unix.ETH_P_ARP, &packet.Config{Filter: filter})
}

// announceARP says it as a request and as a reply: hosts differ in which they
// heed.
func (a asker) announceARP() error {
	for _, op := range []arp.Operation{arp.OperationRequest, arp.OperationReply} {
		if err := a.sendARP(op, a.MAC, a.Addr); err != nil {
			return err
		}
	}
	return nil
}

// askARP sends an ARP probe (RFC 5227).
func (a asker) askARP() error {
	return a.sendARP(arp.OperationRequest, a.ifi.HardwareAddr, netip.IPv4Unspecified())
}

// sendARP broadcasts an ARP packet about the address with the given sender.
func (a asker) sendARP(op arp.Operation, senderMAC net.HardwareAddr, sender netip.Addr) error {
	targetMAC := make(net.HardwareAddr, 6)
	if op == arp.OperationReply {
		targetMAC = senderMAC
	}
	message, err := arp.NewPacket(op, senderMAC, sender, targetMAC, a.Addr)
	if err != nil {
		return err
	}
	payload, err := message.MarshalBinary()
	if err != nil {
		return err
	}
	return a.send(ethernet.Broadcast, ethernet.EtherTypeARP, payload)
}

func (a asker) arpClaim(frame ethernet.Frame) net.HardwareAddr {
	var message arp.Packet
	if message.UnmarshalBinary(frame.Payload) != nil || message.SenderIP != a.Addr {
		return nil
	}
	return message.SenderHardwareAddr
}
