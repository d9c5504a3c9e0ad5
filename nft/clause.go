package nft

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"earshot/hashmode"
)

// A clause is one part of a rule: the expressions and the nft text that they
// encode. Rules are written as lists of clauses, so that the text of a rule
// and what the kernel runs cannot part.
type clause struct {
	text  string
	exprs []expr.Any
}

// reg is the first register, of 16 bytes.
const reg = unix.NFT_REG_1

// word is the register that starts at the n-th 4-byte word of all registers,
// by the name that the kernel gives it back: the 16-byte one where one starts.
func word(n uint32) uint32 {
	if n%4 == 0 {
		return unix.NFT_REG_1 + n/4
	}
	return unix.NFT_REG32_00 + n
}

// load is a payload load into reg.
func load(base expr.PayloadBase, offset, length uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: base, Offset: offset, Len: length}
}

func equal(data ...byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: data} }

func unequal(data ...byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: data} }

// masked keeps the bits of reg that mask names.
func masked(mask ...byte) expr.Any {
	return &expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask))}
}

func host32(v uint32) []byte { return binaryutil.NativeEndian.PutUint32(v) }

// etherType of an IP version.
func etherType(v6 bool) []byte {
	if v6 {
		return []byte{0x86, 0xdd}
	}
	return []byte{0x08, 0x00}
}

// ipName is the name of an IP version's header in nft.
func ipName(v6 bool) string {
	if v6 {
		return "ip6"
	}
	return "ip"
}

// isIP opens every rule that looks into the IP header, though the chain has
// asked before: without it nft lists the rule as raw bytes, as in
// "@nh,96,32". With it, it lists "ip saddr" and leaves this clause out.
func isIP(f nftables.TableFamily, v6 bool) clause {
	if f == netdev {
		return clause{"meta protocol " + ipName(v6), []expr.Any{&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: reg}, equal(etherType(v6)...)}}
	}
	name, nfproto := "ipv4", byte(unix.NFPROTO_IPV4)
	if v6 {
		name, nfproto = "ipv6", unix.NFPROTO_IPV6
	}
	return clause{"meta nfproto " + name, []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg}, equal(nfproto)}}
}

func isARP() clause {
	return clause{"meta protocol arp", []expr.Any{&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: reg}, equal(0x08, 0x06)}}
}

// isEthernet does the same for the Ethernet header.
func isEthernet() clause {
	return clause{"meta iiftype ether", []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFTYPE, Register: reg},
		equal(binaryutil.NativeEndian.PutUint16(unix.ARPHRD_ETHER)...),
	}}
}

// ipSource and ipDest compare a field of the IP header.
func ipSource(a netip.Addr) clause {
	if a.Is6() {
		return clause{"ip6 saddr " + a.String(), []expr.Any{load(expr.PayloadBaseNetworkHeader, 8, 16), equal(a.AsSlice()...)}}
	}
	return clause{"ip saddr " + a.String(), []expr.Any{load(expr.PayloadBaseNetworkHeader, 12, 4), equal(a.AsSlice()...)}}
}

func ipDest(a netip.Addr) clause {
	if a.Is6() {
		return clause{"ip6 daddr " + a.String(), []expr.Any{load(expr.PayloadBaseNetworkHeader, 24, 16), equal(a.AsSlice()...)}}
	}
	return clause{"ip daddr " + a.String(), []expr.Any{load(expr.PayloadBaseNetworkHeader, 16, 4), equal(a.AsSlice()...)}}
}

// fragment: any fragment, the first one included (IPv4: "more fragments" or
// an offset; IPv6: the header, wherever it stands).
func fragment(v6 bool) clause {
	if v6 {
		return clause{"exthdr frag exists", []expr.Any{
			&expr.Exthdr{DestRegister: reg, Type: unix.IPPROTO_FRAGMENT, Len: 1, Flags: unix.NFT_EXTHDR_F_PRESENT, Op: expr.ExthdrOpIpv6},
			equal(1),
		}}
	}
	return clause{"ip frag-off & 0x3fff != 0", []expr.Any{
		load(expr.PayloadBaseNetworkHeader, 6, 2), masked(0x3f, 0xff), unequal(0, 0),
	}}
}

// whole: no fragment, the opposite of fragment.
func whole(v6 bool) clause {
	if v6 {
		return clause{"exthdr frag missing", []expr.Any{
			&expr.Exthdr{DestRegister: reg, Type: unix.IPPROTO_FRAGMENT, Len: 1, Flags: unix.NFT_EXTHDR_F_PRESENT, Op: expr.ExthdrOpIpv6},
			equal(0),
		}}
	}
	return clause{"ip frag-off & 0x3fff == 0", []expr.Any{
		load(expr.PayloadBaseNetworkHeader, 6, 2), masked(0x3f, 0xff), equal(0, 0),
	}}
}

// isTestFrame: what Hear sends. The kernel would answer that it has no such
// protocol, and count a flow.
func isTestFrame() clause {
	return clause{fmt.Sprintf("meta l4proto %d th dport %d", testProtocol, testPort), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg}, equal(testProtocol),
		load(expr.PayloadBaseTransportHeader, 2, 2), equal(binary.BigEndian.AppendUint16(nil, testPort)...),
	}}
}

func etherDest(mac net.HardwareAddr) clause {
	return clause{"ether daddr " + mac.String(), []expr.Any{load(expr.PayloadBaseLLHeader, 0, 6), equal(mac...)}}
}

func l4proto(p uint8, name string) clause {
	return clause{"meta l4proto " + name, []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg}, equal(p)}}
}

func isTCP() clause { return l4proto(unix.IPPROTO_TCP, "tcp") }

func isProtocol(p Protocol) clause { return l4proto(uint8(p), p.String()) }

// hasPorts: the protocols with ports that are neither TCP nor UDP.
func hasPorts() clause {
	return clause{"meta l4proto @" + setPorted, []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Lookup{SourceRegister: reg, SetName: setPorted},
	}}
}

func notTCP() clause {
	return clause{"meta l4proto != tcp", []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg}, unequal(unix.IPPROTO_TCP)}}
}

// sourcePort and destPort name the protocol and one of its ports.
func sourcePort(p Port) clause { return port(p, "sport", 0) }

func destPort(p Port) clause { return port(p, "dport", 2) }

func port(p Port, field string, offset uint32) clause {
	return clause{fmt.Sprintf("%s %s %d", p.Protocol, field, p.Number), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		equal(uint8(p.Protocol)),
		load(expr.PayloadBaseTransportHeader, offset, 2),
		equal(binary.BigEndian.AppendUint16(nil, p.Number)...),
	}}
}

// TCP header flags.
const (
	flagFIN = 0x01
	flagSYN = 0x02
	flagRST = 0x04
	flagACK = 0x10
)

// bareSYN: a segment that opens a connection (rule P17).
func bareSYN() clause {
	return clause{"tcp flags & (fin | syn | rst | ack) == syn", []expr.Any{
		load(expr.PayloadBaseTransportHeader, 13, 1), masked(flagFIN | flagSYN | flagRST | flagACK), equal(flagSYN),
	}}
}

// notSYNACK: all but the answer to a segment that opens a connection.
func notSYNACK() clause {
	return clause{"tcp flags & (fin | syn | rst | ack) != syn | ack", []expr.Any{
		load(expr.PayloadBaseTransportHeader, 13, 1), masked(flagFIN | flagSYN | flagRST | flagACK), unequal(flagSYN | flagACK),
	}}
}

// ctStatusConfirmed: a packet of a flow that is known here (rule P17).
func ctStatusConfirmed() clause {
	const confirmed = 1 << 3 // IPS_CONFIRMED
	return clause{"ct status confirmed", []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: reg}, masked(host32(confirmed)...), unequal(host32(0)...),
	}}
}

func ctState(name string, bit uint32) clause {
	return clause{"ct state " + name, []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: reg}, masked(host32(bit)...), unequal(host32(0)...),
	}}
}

func ctStateNew() clause { return ctState("new", expr.CtStateBitNEW) }

func ctStateRelated() clause { return ctState("related", expr.CtStateBitRELATED) }

// viaLoopback: lo is the first interface of every network namespace.
func viaLoopback(key expr.MetaKey, name string) clause {
	return clause{name + ` "lo"`, []expr.Any{&expr.Meta{Key: key, Register: reg}, equal(host32(1)...)}}
}

func fromLoopback() clause { return viaLoopback(expr.MetaKeyIIF, "iif") }

func toLoopback() clause { return viaLoopback(expr.MetaKeyOIF, "oif") }

func outNot(ifname string) clause {
	var padded [unix.IFNAMSIZ]byte
	copy(padded[:], ifname)
	return clause{fmt.Sprintf("oifname != %q", ifname), []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg}, unequal(padded[:]...)}}
}

// setHost makes the packet one to this host: TCP ignores multicast frames.
func setHost() clause {
	return clause{"meta pkttype set host", []expr.Any{
		&expr.Immediate{Register: reg, Data: []byte{unix.PACKET_HOST}},
		&expr.Meta{Key: expr.MetaKeyPKTTYPE, SourceRegister: true, Register: reg},
	}}
}

// protocolIn looks the packet's protocol up, which is the same for all that
// reaches the rule: it asks whether the set is filled.
func protocolIn(set string) clause {
	return clause{"meta protocol @" + set, []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: reg},
		&expr.Lookup{SourceRegister: reg, SetName: set},
	}}
}

// A flowSide says where a packet carries the client's address and ports: as
// its source on the way in, as its destination on the way out.
type flowSide struct {
	addr, addr6               string
	addrOffset, addr6Offset   uint32
	client, server            string
	clientOffset, serveOffset uint32
}

func inbound() flowSide {
	return flowSide{"ip saddr", "ip6 saddr", 12, 8, "th sport", "th dport", 0, 2}
}

func outbound() flowSide {
	return flowSide{"ip daddr", "ip6 daddr", 16, 24, "th dport", "th sport", 2, 0}
}

// bucketHash leaves the packet's bucket in reg; hashmode.Spec.Bucket computes
// the same. The fields stand in consecutive words, as nft lays out a
// concatenation, each port padded with zeros to a word.
func bucketHash(spec hashmode.Spec, side flowSide, v6 bool) clause {
	next := uint32(0) // word
	var fields []string
	var exprs []expr.Any
	field := func(name string, base expr.PayloadBase, offset, length uint32) {
		fields = append(fields, name)
		exprs = append(exprs, &expr.Payload{DestRegister: word(next), Base: base, Offset: offset, Len: length})
		next += (length + 3) / 4
	}
	length := uint32(4)
	if v6 {
		length = 16
		field(side.addr6, expr.PayloadBaseNetworkHeader, side.addr6Offset, length)
	} else {
		field(side.addr, expr.PayloadBaseNetworkHeader, side.addrOffset, length)
	}
	if mask := spec.Mask(int(length)); mask != nil {
		addr, _ := netip.AddrFromSlice(mask)
		fields[0] += " & " + addr.String()
		exprs = append(exprs, masked(mask...))
	}
	if spec.Mode.SourcePort() {
		field(side.client, expr.PayloadBaseTransportHeader, side.clientOffset, 2)
	}
	if spec.Mode.DestPort() {
		field(side.server, expr.PayloadBaseTransportHeader, side.serveOffset, 2)
	}
	exprs = append(exprs, &expr.Hash{
		SourceRegister: word(0), DestRegister: reg, Length: next * 4,
		Modulus: uint32(spec.Buckets), Seed: spec.Seed, Type: expr.HashTypeJenkins,
	})
	return clause{fmt.Sprintf("jhash %s mod %d seed 0x%x", strings.Join(fields, " . "), spec.Buckets, spec.Seed), exprs}
}

// in and notIn look up what the clause before left in reg.
func in(set string) clause {
	return clause{"@" + set, []expr.Any{&expr.Lookup{SourceRegister: reg, SetName: set}}}
}

func notIn(set string) clause {
	return clause{"!= @" + set, []expr.Any{&expr.Lookup{SourceRegister: reg, SetName: set, Invert: true}}}
}

func counter() clause { return clause{"counter", []expr.Any{&expr.Counter{}}} }

func verdict(text string, kind expr.VerdictKind, chain string) clause {
	return clause{strings.TrimSpace(text + " " + chain), []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}}
}

func accept() clause { return verdict("accept", expr.VerdictAccept, "") }

func drop() clause { return verdict("drop", expr.VerdictDrop, "") }

func back() clause { return verdict("return", expr.VerdictReturn, "") }

func jump(chain string) clause { return verdict("jump", expr.VerdictJump, chain) }

func goTo(chain string) clause { return verdict("goto", expr.VerdictGoto, chain) }
