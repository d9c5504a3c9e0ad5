package nft

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"earshot/hashmode"
)

// Hold and ask (rule P24): what this node cannot judge alone is held by the
// kernel until Decide says what becomes of it.

// Flow names a flow by its original direction, as the client sent it and as
// conntrack names it. Ports are 0 where the protocol has none. Of an ICMP
// query, the client's port is the identifier, the server's has the type in its
// high byte and the code in its low one.
type Flow struct {
	Protocol Protocol       `json:"protocol"`
	Client   netip.AddrPort `json:"client"`
	Server   netip.AddrPort `json:"server"`
}

// A flowKind says what names the flows of a protocol beside the addresses.
type flowKind int

const (
	portFlow flowKind = iota // two ports
	icmpFlow                 // an identifier
	hostFlow                 // nothing
)

func (f Flow) kind() flowKind {
	switch {
	case f.Protocol == unix.IPPROTO_ICMP || f.Protocol == unix.IPPROTO_ICMPV6:
		return icmpFlow
	case f.Client.Port() == 0 && f.Server.Port() == 0:
		return hostFlow
	}
	return portFlow
}

// HeldID names a held packet. No two packets of one Plane have the same.
type HeldID uint64

// HeldPacket is a packet that waits for a verdict.
type HeldPacket struct {
	ID      HeldID
	Service string // the one that decides about the packet
	Bucket  hashmode.Bucket
	Flow    Flow
	Opens   bool // a TCP segment with SYN alone (rule P17)
}

// A Verdict says what becomes of a held packet.
type Verdict int

// The verdicts.
const (
	// Pass lets the packet in.
	Pass Verdict = iota
	// Drop drops it, silently.
	Drop
	// Theirs drops it because a peer has its flow, and has the kernel drop
	// what comes of that flow in the next TheirsTime without holding it. A
	// packet that opens a flow is dropped alone.
	Theirs
)

// A Decision is the verdict about one packet.
type Decision struct {
	ID      HeldID
	Verdict Verdict
}

// Queue is the means by which rules hand packets to this process.
type Queue int

// The kinds of queue.
const (
	QueueNone       Queue = iota // the kernel has none: nothing can be held
	QueueExpression              // nf_tables' own "queue"
	QueueTarget                  // the xtables target NFQUEUE
)

// String names it for people.
func (q Queue) String() string {
	switch q {
	case QueueExpression:
		return "nf_tables queue"
	case QueueTarget:
		return "xtables NFQUEUE"
	}
	return "none"
}

// HoldUse counts what became of packets since the Plane was opened.
type HoldUse struct {
	Held    uint64 // packets given to the judge
	Waiting int    // of these, how many have no verdict yet
	Passed  uint64
	Dropped uint64 // by Drop, or by Pass when the bucket or the lease was gone
	Theirs  uint64
	Expired uint64 // dropped undecided, HoldLimit after they came
	Lost    uint64 // dropped by the kernel: the queue or its socket was full
}

// ConntrackUse is how full the kernel's table of flows is. All network
// namespaces share Max; Count is this one's.
type ConntrackUse struct {
	Count, Max uint32
}

// NearlyFull reports whether new flows may soon be dropped.
func (u ConntrackUse) NearlyFull() bool { return u.Max > 0 && uint64(u.Count)*10 >= uint64(u.Max)*8 }
