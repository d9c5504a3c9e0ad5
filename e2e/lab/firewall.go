package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Firewall gives the host a ruleset as firewalld makes it: what is not allowed
// does not come in. Allowed are known flows, ICMP, and these TCP ports.
func (n *Namespace) Firewall(ports ...uint16) error {
	return n.rules(func(conn *nftables.Conn) {
		table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "firewalld"})
		policy := nftables.ChainPolicyDrop
		input := conn.AddChain(&nftables.Chain{
			Name: "filter_INPUT", Table: table, Type: nftables.ChainTypeFilter, Policy: &policy,
			Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityRef(*nftables.ChainPriorityFilter + 10),
		})
		accept := func(exprs ...expr.Any) {
			conn.AddRule(&nftables.Rule{Table: table, Chain: input, Exprs: append(exprs, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept})})
		}
		known := binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)
		accept(&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: known, Xor: make([]byte, 4)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)})
		accept(&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: linkName("lo")})
		for _, protocol := range []byte{unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6} {
			accept(protocolIs(protocol)...)
		}
		for _, port := range ports {
			accept(append(protocolIs(unix.IPPROTO_TCP), portIs(port)...)...)
		}
	})
}

// Containers gives the host a ruleset as Docker makes it: nothing is forwarded
// but for the containers, whose addresses are translated, and so is a port of
// the host's.
func (n *Namespace) Containers(port uint16) error {
	network := netip.MustParsePrefix("172.17.0.0/16")
	container := netip.MustParseAddr("172.17.0.2")
	return n.rules(func(conn *nftables.Conn) {
		filter := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "filter"})
		policy := nftables.ChainPolicyDrop
		conn.AddChain(&nftables.Chain{
			Name: "FORWARD", Table: filter, Type: nftables.ChainTypeFilter, Policy: &policy,
			Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
		})
		nat := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "nat"})
		pre := conn.AddChain(&nftables.Chain{
			Name: "PREROUTING", Table: nat, Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
		})
		post := conn.AddChain(&nftables.Chain{
			Name: "POSTROUTING", Table: nat, Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
		})
		conn.AddRule(&nftables.Rule{Table: nat, Chain: pre, Exprs: append(append(protocolIs(unix.IPPROTO_TCP), portIs(port)...),
			&expr.Immediate{Register: 1, Data: container.AsSlice()},
			&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, 80)},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2})})
		conn.AddRule(&nftables.Rule{Table: nat, Chain: post, Exprs: []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: []byte{255, 255, 0, 0}, Xor: make([]byte, 4)},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: network.Addr().AsSlice()},
			&expr.Masq{},
		}})
	})
}

// rules writes rules in one transaction.
func (n *Namespace) rules(write func(*nftables.Conn)) error {
	err := n.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		write(conn)
		return conn.Flush()
	})
	if err != nil {
		return fmt.Errorf("write rules in %s: %w", n.Name, err)
	}
	return nil
}

func protocolIs(protocol byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
	}
}

func portIs(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, port)},
	}
}
