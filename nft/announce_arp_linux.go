package nft

import (
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

func listenARP(ifi *net.Interface) (*packet.Conn, error) {
	return packet.Listen(ifi, packet.Raw, unix.ETH_P_ARP, nil)
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
