package nft

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Clauses about ICMP and about the two protocols that ask for MACs: ARP and
// IPv6's neighbour discovery.

// icmpName is the name of an IP version's ICMP in nft.
func icmpName(v6 bool) string {
	if v6 {
		return "icmpv6"
	}
	return "icmp"
}

// icmpTypeIn looks up the type of an ICMP message.
func icmpTypeIn(v6 bool, set string) clause {
	protocol := byte(unix.IPPROTO_ICMP)
	if v6 {
		protocol = unix.IPPROTO_ICMPV6
	}
	return clause{icmpName(v6) + " type @" + set, []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		equal(protocol),
		load(expr.PayloadBaseTransportHeader, 0, 1),
		&expr.Lookup{SourceRegister: reg, SetName: set},
	}}
}

// icmpError: the ICMP messages that a router sends about a packet of ours.
func icmpError(v6 bool) clause {
	if v6 {
		return icmpTypeIn(v6, setICMP6Error)
	}
	return icmpTypeIn(v6, setICMPError)
}

// neighbour: the messages of neighbour discovery.
func neighbour() clause { return icmpTypeIn(true, setNeighbour) }

func arpSource(a netip.Addr) clause {
	return clause{"arp saddr ip " + a.String(), []expr.Any{load(expr.PayloadBaseNetworkHeader, 14, 4), equal(a.AsSlice()...)}}
}

func setARPSource(mac net.HardwareAddr) clause {
	return clause{"arp saddr ether set " + mac.String(), []expr.Any{
		&expr.Immediate{Register: reg, Data: mac},
		&expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: 8, Len: 6},
	}}
}

// Neighbour solicitations and advertisements: a target address at offset 8 of
// the ICMPv6 message, the first option at 24, its MAC at 26.
const (
	solicitation  = 135
	advertisement = 136
	sourceMAC     = 1 // option of a solicitation
	targetMAC     = 2 // option of an advertisement
)

// neighbourMessage: a solicitation or advertisement about the address whose
// first option has a MAC. nft 1.0.6 has no word for the target.
func neighbourMessage(kind, option byte, about netip.Addr) clause {
	names := map[byte]string{solicitation: "nd-neighbor-solicit", advertisement: "nd-neighbor-advert"}
	c := clause{"icmpv6 type " + names[kind], []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		equal(unix.IPPROTO_ICMPV6),
		load(expr.PayloadBaseTransportHeader, 0, 1),
		equal(kind),
	}}
	if about.IsValid() {
		c.text += fmt.Sprintf(" @th,64,128 0x%x", about.AsSlice())
		c.exprs = append(c.exprs, load(expr.PayloadBaseTransportHeader, 8, 16), equal(about.AsSlice()...))
	}
	c.text += fmt.Sprintf(" @th,192,16 0x%02x01", option)
	c.exprs = append(c.exprs, load(expr.PayloadBaseTransportHeader, 24, 2), equal(option, 1))
	return c
}

// hasNeighbourMAC compares the MAC of a message's first option.
func hasNeighbourMAC(mac net.HardwareAddr) clause {
	return clause{fmt.Sprintf("@th,208,48 0x%x", []byte(mac)), []expr.Any{load(expr.PayloadBaseTransportHeader, 26, 6), equal(mac...)}}
}

// setNeighbourMAC writes the MAC of a message's first option. The nft program
// would leave the checksum as it was: these expressions mend it.
func setNeighbourMAC(mac net.HardwareAddr) clause {
	return clause{fmt.Sprintf("@th,208,48 set 0x%x", []byte(mac)), []expr.Any{
		&expr.Immediate{Register: reg, Data: mac},
		&expr.Payload{
			OperationType: expr.PayloadWrite, SourceRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 26, Len: 6,
			CsumType: expr.CsumTypeInet, CsumOffset: 2,
		},
	}}
}
