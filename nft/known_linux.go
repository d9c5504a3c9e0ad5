package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// questionsAtOnce is how many flows are asked about in one system call. The
// answers, of a page each in the kernel's account, must fit into the socket's
// buffer even where its size cannot be raised (212,992 bytes).
const questionsAtOnce = 32

// flowFinder asks conntrack for flows, over a lasting connection.
type flowFinder struct {
	tracker
	// forget is how long conntrack remembers TCP flows after their end, by
	// state; read with each new connection, which was last readBy.
	forget map[byte]time.Duration
	readBy *netfilter
}

// Known reports for each flow whether this node has it: whether conntrack
// lists it and, for TCP, as begun by the client, and not in TIME_WAIT or CLOSE
// for longer than HoldLimit: a SYN that was held may have been answered here
// and its connection closed meanwhile, while a later one opens another. Flows in
// a conntrack zone other than 0 are not found.
func (p *Plane) Known(flows []Flow) ([]bool, error) {
	known := make([]bool, len(flows))
	f := &p.flows
	err := f.ask(func(c *netfilter) error {
		if f.readBy != c {
			f.forget, f.readBy = f.ns.memoryOfTCP(), c
		}
		for at := 0; at < len(flows); at += questionsAtOnce {
			end := min(at+questionsAtOnce, len(flows))
			if err := c.find(flows[at:end], known[at:end], f.forget); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for flows: %w", err)
	}
	return known, nil
}

// find puts one question for each flow and waits for all the answers, which
// bear the question's number.
func (c *netfilter) find(flows []Flow, known []bool, forget map[byte]time.Duration) error {
	var m []byte
	for i, flow := range flows {
		start := len(m)
		m = startMessage(m, messageGetFlow, 0, uint32(i), familyOf(flow.Client.Addr()), 0)
		m = appendTuple(m, flow)
		endMessage(m, start)
	}
	return c.converse(m, len(flows), func(i int, kind uint16, body []byte) error {
		switch kind {
		case messageFlow:
			known[i] = lists(body, flows[i], forget)
		case unix.NLMSG_ERROR:
			// Conntrack has no such flow, or can have none (ICMP that asks nothing).
			if err := errorOf(body); !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
				return err
			}
		}
		return nil
	})
}

func familyOf(a netip.Addr) uint8 {
	if a.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// appendTuple appends a flow as conntrack's original tuple.
func appendTuple(m []byte, f Flow) []byte {
	tuple := len(m)
	m = startNested(m, attrOriginal)
	ip := len(m)
	m = startNested(m, attrTupleIP)
	source, dest := uint16(attrSource4), uint16(attrDest4)
	if f.Client.Addr().Is6() {
		source, dest = attrSource6, attrDest6
	}
	m = appendAttribute(m, source, f.Client.Addr().AsSlice()...)
	m = appendAttribute(m, dest, f.Server.Addr().AsSlice()...)
	endNested(m, ip)
	proto := len(m)
	m = startNested(m, attrTupleProto)
	m = appendAttribute(m, attrProtoNumber, byte(f.Protocol))
	from, to := f.Client.Port(), f.Server.Port()
	if f.kind() == icmpFlow {
		first := uint16(attrICMPID)
		if f.Protocol == unix.IPPROTO_ICMPV6 {
			first = attrICMP6ID
		}
		m = appendAttribute(m, first, byte(from>>8), byte(from))
		m = appendAttribute(m, first+1, byte(to>>8))
		m = appendAttribute(m, first+2, byte(to))
	} else {
		m = appendAttribute(m, attrSourcePort, byte(from>>8), byte(from))
		m = appendAttribute(m, attrDestPort, byte(to>>8), byte(to))
	}
	endNested(m, proto)
	endNested(m, tuple)
	return m
}

// lists reports whether conntrack's answer is the flow itself: it also finds
// those whose answers look like it. Of TCP it must be the client's and open, or have been just
// now; forget is how long it would be remembered from its end.
func lists(body []byte, f Flow, forget map[byte]time.Duration) bool {
	// Of other protocols it may be one that the server began: its packets come in
	// by the same rule.
	same, state, left := f.Protocol != TCP, byte(0), time.Duration(0)
	eachAttribute(body[min(netfilterHeader, len(body)):], func(kind uint16, data []byte) {
		switch kind {
		case attrOriginal:
			same = same || sameClient(data, f)
		case attrTimeout:
			if len(data) == 4 {
				left = time.Duration(binary.BigEndian.Uint32(data)) * time.Second
			}
		case attrProtoInfo:
			state = stateOfTCP(data)
		}
	})
	total, ended := forget[state]
	return same && (f.Protocol != TCP || !ended || total-left <= HoldLimit)
}

// memoryOfTCP reads for how long conntrack remembers what has ended; the
// kernel's defaults where it does not say.
func (n namespace) memoryOfTCP() map[byte]time.Duration {
	forget := map[byte]time.Duration{ctTimeWait: 120 * time.Second, ctClose: 10 * time.Second}
	for state, name := range map[byte]string{ctTimeWait: "time_wait", ctClose: "close"} {
		_ = n.do(func() error {
			seconds, err := readInt("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_" + name)
			if err == nil {
				forget[state] = time.Duration(seconds) * time.Second
			}
			return err
		})
	}
	return forget
}

// sameClient reports whether the client began the flow.
func sameClient(tuple []byte, f Flow) bool {
	_, key := readTuple(tuple)
	return key.client.Addr() == f.Client.Addr()
}
