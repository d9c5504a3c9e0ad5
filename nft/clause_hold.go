package nft

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// Clauses about packets that are held (rule P24).

// A flowIn clause looks the packet's flow up among those of peers, by the
// fields that theirsKey writes. Ports and identifiers are read from the packet
// and not from conntrack, which knows them for every protocol: the netlink
// library cannot read such a rule back.
func flowIn(v6 bool, kind flowKind) clause {
	length, source, dest := uint32(4), uint32(12), uint32(16)
	if v6 {
		length, source, dest = 16, 8, 24
	}
	ip := ipName(v6)
	fields := []string{"meta l4proto"}
	exprs := []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: word(0)}}
	next := uint32(1) // word
	field := func(name string, base expr.PayloadBase, offset, length uint32) {
		fields = append(fields, name)
		exprs = append(exprs, &expr.Payload{DestRegister: word(next), Base: base, Offset: offset, Len: length})
		next += (length + 3) / 4
	}
	network, transport := expr.PayloadBaseNetworkHeader, expr.PayloadBaseTransportHeader
	field(ip+" saddr", network, source, length)
	switch kind {
	case portFlow:
		field("th sport", transport, 0, 2)
	case icmpFlow:
		field(icmpName(v6)+" id", transport, 4, 2)
	}
	field(ip+" daddr", network, dest, length)
	switch kind {
	case portFlow:
		field("th dport", transport, 2, 2)
	case icmpFlow:
		field(icmpName(v6)+" type", transport, 0, 1)
	}
	set := setTheirs(v6, kind)
	exprs = append(exprs, &expr.Lookup{SourceRegister: word(0), SetName: set})
	return clause{strings.Join(fields, " . ") + " @" + set, exprs}
}

// isICMP opens the rules that look at an identifier.
func isICMP(v6 bool) clause {
	if v6 {
		return l4proto(unix.IPPROTO_ICMPV6, "ipv6-icmp")
	}
	return l4proto(unix.IPPROTO_ICMP, "icmp")
}

// theirsKey is a flow as an element of the set of its kind.
func theirsKey(f Flow) []byte {
	key := append([]byte{byte(f.Protocol), 0, 0, 0}, f.Client.Addr().AsSlice()...)
	kind := f.kind()
	if kind != hostFlow {
		key = append(binary.BigEndian.AppendUint16(key, f.Client.Port()), 0, 0)
	}
	key = append(key, f.Server.Addr().AsSlice()...)
	if kind != hostFlow {
		key = append(binary.BigEndian.AppendUint16(key, f.Server.Port()), 0, 0)
	}
	return key
}

// more: packets beyond so many per second. As many may come at once.
func more(perSecond uint64) clause {
	return clause{fmt.Sprintf("limit rate over %d/second burst %d packets", perSecond, perSecond), []expr.Any{
		&expr.Limit{Type: expr.LimitTypePkts, Rate: perSecond, Burst: uint32(perSecond), Unit: expr.LimitTimeSecond, Over: true},
	}}
}

// hold hands the packet to whoever has bound the queue. Nobody: the kernel
// drops it, since neither form has the flag to bypass.
func hold(q Queue) clause {
	if q == QueueExpression {
		return clause{fmt.Sprintf("queue to %d", QueueNumber), []expr.Any{&expr.Queue{Num: QueueNumber, Total: 1}}}
	}
	// struct xt_NFQ_info_v3 (number, how many, flags), padded to 8 bytes.
	info := binary.NativeEndian.AppendUint16(nil, QueueNumber)
	info = binary.NativeEndian.AppendUint16(info, 1)
	unknown := xt.Unknown(append(info, 0, 0, 0, 0))
	return clause{fmt.Sprintf(`xt target "NFQUEUE" # --queue-num %d`, QueueNumber), []expr.Any{&expr.Target{Name: "NFQUEUE", Rev: 3, Info: &unknown}}}
}
