package nft

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/ti-mo/conntrack"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"earshot/hashmode"
)

// FlowCount is the number of flows of one bucket.
type FlowCount struct {
	// Active TCP connections, from the SYN on.
	Active int
	// Closing TCP connections: one side at least has sent its FIN. Those in
	// TIME_WAIT or CLOSE are not counted.
	Closing int
	// Other flows: UDP, ICMP echo and the like, as long as conntrack
	// remembers them (30 s or more after their last packet).
	Other int
	// Oldest is when the oldest of them began; zero where the kernel does not
	// say (sysctl net.netfilter.nf_conntrack_timestamp).
	Oldest time.Time
}

// add counts the flows of m, too.
func (n FlowCount) add(m FlowCount) FlowCount {
	n.Active += m.Active
	n.Closing += m.Closing
	n.Other += m.Other
	if n.Oldest.IsZero() || !m.Oldest.IsZero() && m.Oldest.Before(n.Oldest) {
		n.Oldest = m.Oldest
	}
	return n
}

// flowKey tells TCP flows apart that conntrack and the sockets both list.
type flowKey struct {
	client netip.AddrPort
	server netip.AddrPort
}

// Flows counts the flows per service and bucket that this node has, in
// whatever state the bucket is: those in conntrack whose original destination
// is the shared address, and TCP sockets that conntrack does not list (any
// more). A connection that ends here by conntrack's word alone, without a
// socket, is not counted once it was established. A flow belongs to the
// service that decides about its packets.
func (p *Plane) Flows(services []Service) (map[string]map[hashmode.Bucket]FlowCount, error) {
	all, err := addresses(services)
	if err != nil {
		return nil, err
	}
	counts := flowCounter{byAddr: map[netip.Addr]address{}, counts: map[string]map[hashmode.Bucket]FlowCount{}}
	for _, a := range all {
		counts.byAddr[a.Addr] = a
		for _, s := range a.Services {
			counts.counts[s.Name] = map[hashmode.Bucket]FlowCount{}
		}
	}
	var flows []conntrack.Flow
	var sockets []*netlink.Socket
	err = p.tracker.ask(func(c *conntrack.Conn) (err error) {
		flows, err = c.Dump(nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list conntrack: %w", err)
	}
	err = p.ns.do(func() error {
		// A socket that listens on [::] has its IPv4 connections as AF_INET6.
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			some, err := netlink.SocketDiagTCP(family)
			if err != nil {
				return fmt.Errorf("list sockets: %w", err)
			}
			sockets = append(sockets, some...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	counts.sockets = map[flowKey]uint8{}
	for _, s := range sockets {
		counts.sockets[keyOfSocket(s)] = s.State
	}
	for _, f := range flows {
		counts.conntrack(f)
	}
	for key, state := range counts.sockets {
		counts.socket(key, state)
	}
	return counts.counts, nil
}

type flowCounter struct {
	byAddr map[netip.Addr]address
	counts map[string]map[hashmode.Bucket]FlowCount
	// sockets of this namespace with their states. What conntrack has listed
	// is taken out.
	sockets map[flowKey]uint8
}

// States of TCP in conntrack (enum tcp_conntrack).
const (
	ctEstablished = 3
	ctFinWait     = 4
	ctCloseWait   = 5
	ctLastAck     = 6
	ctTimeWait    = 7
	ctClose       = 8
)

func (c flowCounter) conntrack(f conntrack.Flow) {
	key := keyOfTuple(f.TupleOrig)
	if f.TupleOrig.Proto.Protocol != unix.IPPROTO_TCP {
		c.add(f.TupleOrig.Proto.Protocol, key, FlowCount{Other: 1, Oldest: f.Timestamp.Start})
		return
	}
	if f.ProtoInfo.TCP == nil {
		return
	}
	// The end that answers, which differs from the original destination where
	// others translate addresses.
	local := flowKey{client: keyOfTuple(f.TupleReply).server, server: keyOfTuple(f.TupleReply).client}
	_, socket := c.sockets[local]
	here := local.server.Addr() == key.server.Addr()
	switch state := f.ProtoInfo.TCP.State; {
	case state == ctTimeWait || state == ctClose:
		return // a socket may still be there
	case state >= ctEstablished && here && !socket:
		return // a late segment made conntrack believe in it again, for days
	case state == ctFinWait || state == ctCloseWait || state == ctLastAck:
		c.add(unix.IPPROTO_TCP, key, FlowCount{Closing: 1, Oldest: f.Timestamp.Start})
	default:
		c.add(unix.IPPROTO_TCP, key, FlowCount{Active: 1, Oldest: f.Timestamp.Start})
	}
	delete(c.sockets, local)
}

func keyOfTuple(t conntrack.Tuple) flowKey {
	return flowKey{
		client: netip.AddrPortFrom(t.IP.SourceAddress, t.Proto.SourcePort),
		server: netip.AddrPortFrom(t.IP.DestinationAddress, t.Proto.DestinationPort),
	}
}

func keyOfSocket(s *netlink.Socket) flowKey {
	local, _ := netip.AddrFromSlice(s.ID.Source)
	remote, _ := netip.AddrFromSlice(s.ID.Destination)
	return flowKey{
		client: netip.AddrPortFrom(remote.Unmap(), s.ID.DestinationPort),
		server: netip.AddrPortFrom(local.Unmap(), s.ID.SourcePort),
	}
}

// States of TCP sockets (net/tcp_states.h).
const (
	tcpEstablished = 1
	tcpSynRecv     = 3
	tcpFinWait1    = 4
	tcpFinWait2    = 5
	tcpCloseWait   = 8
	tcpLastAck     = 9
	tcpClosing     = 11
)

// socket counts a connection that conntrack does not list: a half-closed one
// outlives its entry (rule P16).
func (c flowCounter) socket(key flowKey, state uint8) {
	switch state {
	case tcpEstablished, tcpSynRecv:
		c.add(unix.IPPROTO_TCP, key, FlowCount{Active: 1})
	case tcpFinWait1, tcpFinWait2, tcpCloseWait, tcpLastAck, tcpClosing:
		c.add(unix.IPPROTO_TCP, key, FlowCount{Closing: 1})
	}
}

func (c flowCounter) add(protocol uint8, key flowKey, one FlowCount) {
	a, ok := c.byAddr[key.server.Addr()]
	// A connection of the node to itself never met the rules.
	if !ok || key.client.Addr() == key.server.Addr() {
		return
	}
	service, spec := a.decider(protocol, key.server.Port())
	bucket := spec.Bucket(key.client, key.server.Port())
	counts := c.counts[service.Name]
	counts[bucket] = counts[bucket].add(one)
}
