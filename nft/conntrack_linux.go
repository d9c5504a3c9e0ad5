package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Messages and attributes of linux/netfilter/nfnetlink_conntrack.h.
const (
	conntrackSubsystem = 1 << 8 // NFNL_SUBSYS_CTNETLINK
	messageFlow        = conntrackSubsystem
	messageGetFlow     = conntrackSubsystem | 1
	messageDeleteFlow  = conntrackSubsystem | 2
	messageGetUse      = conntrackSubsystem | 5

	attrOriginal  = 1
	attrReply     = 2
	attrProtoInfo = 4
	attrTimeout   = 7
	attrFlowID    = 12
	attrZone      = 18
	attrTimestamp = 20

	attrTupleIP    = 1
	attrTupleProto = 2

	attrSource4, attrDest4 = 1, 2
	attrSource6, attrDest6 = 3, 4

	attrProtoNumber           = 1
	attrSourcePort            = 2
	attrDestPort              = 3
	attrICMPID                = 4 // type and code follow
	attrICMP6ID               = 7
	attrInfoTCP, attrTCPState = 1, 1

	attrBegan = 1

	attrUseCount, attrUseMax = 1, 2
)

// States of TCP in conntrack (enum tcp_conntrack).
const (
	ctEstablished = 3
	ctFinWait     = 4
	ctCloseWait   = 5
	ctLastAck     = 6
	ctTimeWait    = 7
	ctClose       = 8
)

// Conntrack tells how full the kernel's table of flows is.
func (p *Plane) Conntrack() (use ConntrackUse, err error) {
	m := startMessage(nil, messageGetUse, 0, 0, unix.AF_UNSPEC, 0)
	endMessage(m, 0)
	err = p.tracker.ask(func(c *netfilter) error {
		return c.converse(m, 1, func(_ int, kind uint16, body []byte) error {
			if kind == unix.NLMSG_ERROR {
				return errorOf(body)
			}
			eachAttribute(body[min(netfilterHeader, len(body)):], func(kind uint16, data []byte) {
				switch {
				case kind == attrUseCount && len(data) == 4:
					use.Count = binary.BigEndian.Uint32(data)
				case kind == attrUseMax && len(data) == 4:
					use.Max = binary.BigEndian.Uint32(data)
				}
			})
			return nil
		})
	})
	if err != nil {
		return use, fmt.Errorf("read conntrack's use: %w", err)
	}
	return use, nil
}

// A tracked is a flow that conntrack lists.
type tracked struct {
	protocol uint8
	original flowKey   // its first direction; no ports where it has none
	reply    flowKey   // the other, in which the client is who answers
	state    byte      // TCP's; zero for others
	began    time.Time // zero where the kernel does not say
}

// fromClient is the flow as packets to a shared address have it. A server may
// begin one: TFTP's answers come from a port of their own, and others keep the
// client's firewall open. TCP's that it begins are its own.
func (f tracked) fromClient(shared map[netip.Addr]address) flowKey {
	_, to := shared[f.original.server.Addr()]
	_, from := shared[f.original.client.Addr()]
	if from && !to && f.protocol != unix.IPPROTO_TCP {
		return flowKey{client: f.original.server, server: f.original.client}
	}
	return f.original
}

// list gives all flows that conntrack has to take, each with the message's body
// that tells of it, which is valid for as long as take runs. They are read one
// by one and not kept: a busy server has a hundred thousand of them, most of
// TCP connections that have ended.
func (c *netfilter) list(take func(f tracked, body []byte)) error {
	m := startMessage(nil, messageGetFlow, unix.NLM_F_DUMP, 0, unix.AF_UNSPEC, 0)
	endMessage(m, 0)
	return c.dump(m, func(body []byte) { take(readTracked(body), body) })
}

func readTracked(body []byte) (f tracked) {
	eachAttribute(body[min(netfilterHeader, len(body)):], func(kind uint16, data []byte) {
		switch kind {
		case attrOriginal:
			f.protocol, f.original = readTuple(data)
		case attrReply:
			_, f.reply = readTuple(data)
		case attrProtoInfo:
			f.state = stateOfTCP(data)
		case attrTimestamp:
			eachAttribute(data, func(kind uint16, data []byte) {
				if kind == attrBegan && len(data) == 8 {
					f.began = time.Unix(0, int64(binary.BigEndian.Uint64(data)))
				}
			})
		}
	})
	return f
}

// readTuple reads one direction of a flow.
func readTuple(tuple []byte) (protocol uint8, key flowKey) {
	var source, dest netip.Addr
	var from, to uint16
	eachAttribute(tuple, func(kind uint16, data []byte) {
		switch kind {
		case attrTupleIP:
			eachAttribute(data, func(kind uint16, data []byte) {
				switch kind {
				case attrSource4, attrSource6:
					source, _ = netip.AddrFromSlice(data)
				case attrDest4, attrDest6:
					dest, _ = netip.AddrFromSlice(data)
				}
			})
		case attrTupleProto:
			eachAttribute(data, func(kind uint16, data []byte) {
				switch {
				case kind == attrProtoNumber && len(data) == 1:
					protocol = data[0]
				case kind == attrSourcePort && len(data) == 2:
					from = binary.BigEndian.Uint16(data)
				case kind == attrDestPort && len(data) == 2:
					to = binary.BigEndian.Uint16(data)
				}
			})
		}
	})
	return protocol, flowKey{client: netip.AddrPortFrom(source, from), server: netip.AddrPortFrom(dest, to)}
}

// stateOfTCP reads what conntrack knows of a protocol; zero if it is not TCP.
func stateOfTCP(info []byte) (state byte) {
	eachAttribute(info, func(kind uint16, data []byte) {
		if kind != attrInfoTCP {
			return
		}
		eachAttribute(data, func(kind uint16, data []byte) {
			if kind == attrTCPState && len(data) == 1 {
				state = data[0]
			}
		})
	})
	return state
}

// appendDelete appends a message that has conntrack forget a listed flow, and
// no other that has its place by then.
func appendDelete(m []byte, seq uint32, body []byte) []byte {
	start := len(m)
	m = startMessage(m, messageDeleteFlow, unix.NLM_F_ACK, seq, body[0], 0)
	eachAttribute(body[netfilterHeader:], func(kind uint16, data []byte) {
		switch kind {
		case attrOriginal:
			kind |= unix.NLA_F_NESTED
			fallthrough
		case attrZone, attrFlowID:
			m = appendAttribute(m, kind, data...)
		}
	})
	endMessage(m, start)
	return m
}
