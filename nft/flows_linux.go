package nft

import (
	"fmt"
	"net/netip"
	"time"

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
// is the shared address, those but of TCP that began there, and TCP sockets
// that conntrack does not list (any more). A connection that ends here by
// conntrack's word alone, without a socket, is not counted once it was
// established. A flow belongs to the service that decides about its packets.
func (p *Plane) Flows(services []Service) (map[string]map[hashmode.Bucket]FlowCount, error) {
	shared, err := byAddress(services)
	if err != nil {
		return nil, err
	}
	counts := flowCounter{byAddr: shared, counts: map[string]map[hashmode.Bucket]FlowCount{}, sockets: map[flowKey]uint8{}}
	for _, a := range shared {
		for _, s := range a.Services {
			counts.counts[s.Name] = map[hashmode.Bucket]FlowCount{}
		}
	}
	// Conntrack first: a connection that begins in between has a socket.
	err = p.tracker.ask(func(c *netfilter) error {
		return c.list(func(f tracked, _ []byte) { counts.conntrack(f) })
	})
	if err != nil {
		return nil, fmt.Errorf("list conntrack: %w", err)
	}
	err = p.ns.do(func() error {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			sockets, err := socketsIn(openStates, family)
			if err != nil {
				return err
			}
			for _, s := range sockets {
				counts.sockets[s.ends] = s.state
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, f := range counts.open {
		counts.connection(f)
	}
	for key, state := range counts.sockets {
		counts.socket(key, state)
	}
	return counts.counts, nil
}

type flowCounter struct {
	byAddr map[netip.Addr]address
	counts map[string]map[hashmode.Bucket]FlowCount
	// open are the TCP connections by conntrack's word.
	open []tracked
	// sockets of this namespace with their states. What conntrack has listed
	// is taken out.
	sockets map[flowKey]uint8
}

// conntrack counts what is not TCP, and keeps what is until the sockets are
// known.
func (c *flowCounter) conntrack(f tracked) {
	key := f.fromClient(c.byAddr)
	_, to := c.byAddr[key.server.Addr()]
	_, by := c.byAddr[f.reply.client.Addr()]
	switch {
	case !to && !by: // most of a router's flows
	case f.protocol != unix.IPPROTO_TCP:
		c.add(f.protocol, key, FlowCount{Other: 1, Oldest: f.began})
	case f.state == 0 || f.state == ctTimeWait || f.state == ctClose: // a socket may still be there
	default:
		c.open = append(c.open, f)
	}
}

// connection counts a TCP connection that conntrack lists.
func (c *flowCounter) connection(f tracked) {
	// The end that answers, which differs from the original destination where
	// others translate addresses.
	local := flowKey{client: f.reply.server, server: f.reply.client}
	_, socket := c.sockets[local]
	here := local.server.Addr() == f.original.server.Addr()
	switch {
	case f.state >= ctEstablished && here && !socket:
		return // a late segment made conntrack believe in it again, for days
	case f.state == ctFinWait || f.state == ctCloseWait || f.state == ctLastAck:
		c.add(unix.IPPROTO_TCP, f.original, FlowCount{Closing: 1, Oldest: f.began})
	default:
		c.add(unix.IPPROTO_TCP, f.original, FlowCount{Active: 1, Oldest: f.began})
	}
	delete(c.sockets, local)
}

// socket counts a connection that conntrack does not list: a half-closed one
// outlives its entry (rule P16).
func (c *flowCounter) socket(key flowKey, state uint8) {
	switch state {
	case tcpEstablished, tcpSynRecv:
		c.add(unix.IPPROTO_TCP, key, FlowCount{Active: 1})
	case tcpFinWait1, tcpFinWait2, tcpCloseWait, tcpLastAck, tcpClosing:
		c.add(unix.IPPROTO_TCP, key, FlowCount{Closing: 1})
	}
}

func (c *flowCounter) add(protocol uint8, key flowKey, one FlowCount) {
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
