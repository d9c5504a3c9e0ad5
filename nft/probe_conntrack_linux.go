package nft

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// forgetsTooSoon is less than RFC 5382 asks of whatever keeps state of TCP
// connections, 2 h 4 min.
const forgetsTooSoon = 7440

// conntrackKnobs are settings of conntrack that moves depend on. All of them
// have good values by default.
func conntrackKnobs() []knob {
	nonzero := func(v int) bool { return v != 0 }
	lasts := func(v int) bool { return v > int(TheirsTime/time.Second) }
	const conf = "net/netfilter/nf_conntrack_"
	all := []knob{
		{conf + "tcp_loose", nonzero, false, Warn, 1, "a move breaks connections that are older than the agent's rules"},
		{conf + "tcp_timeout_established", func(v int) bool { return v >= forgetsTooSoon }, false, Warn, forgetsTooSoon,
			"a move breaks connections that were idle for longer"},
	}
	for _, name := range []string{"udp_timeout", "udp_timeout_stream", "icmp_timeout", "icmpv6_timeout", "generic_timeout"} {
		all = append(all, knob{conf + name, lasts, false, Warn, int(TheirsTime/time.Second) + 1,
			fmt.Sprintf("the new owner of a bucket takes the old one's word for %d s, which is as long or longer", TheirsTime/time.Second)})
	}
	return all
}

// ProbeConntrack looks at conntrack as the shared resource that it is: how
// full it is, and whether its settings suit moves. All that it finds is a
// warning at most.
func (p *Plane) ProbeConntrack() []Finding {
	var findings []Finding
	err := p.ns.do(func() error {
		for _, k := range conntrackKnobs() {
			if f, ok := probeKnob("", k, ""); ok && f.Severity != OK {
				findings = append(findings, f)
			}
		}
		return nil
	})
	if len(findings) == 0 {
		findings = append(findings, Finding{Severity: OK, What: "settings of conntrack"})
	}
	use, useErr := p.Conntrack()
	if err = errors.Join(err, useErr); err != nil {
		return append(findings, Finding{Severity: Warn, What: "use of conntrack", Mend: "use CONFIG_NF_CT_NETLINK, or a full table goes unnoticed", Err: err})
	}
	f := Finding{Severity: OK, What: fmt.Sprintf("conntrack has %d of %d entries", use.Count, use.Max)}
	if use.NearlyFull() {
		f.Severity, f.What = Warn, f.What+": when it is full, new flows are dropped"
		f.Mend = fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d", 2*use.Max)
	}
	return append(findings, f)
}

// probeQueue tells by what packets are held.
func (p *Plane) probeQueue() Finding {
	if p.queue != QueueNone {
		return Finding{Severity: OK, What: fmt.Sprintf("queue for packets: %s (number %d)", p.queue, QueueNumber)}
	}
	return Finding{
		Severity: Warn, What: "no queue for packets",
		Mend: fmt.Sprintf("use %s, or %s; without either, moves delay new connections by a second and break flows of protocols without a SYN",
			queueFeature(QueueExpression).needs, queueFeature(QueueTarget).needs),
	}
}

// queuesServed reports whether the kernel hands the packets of queues to programs
// at all. It asks for something that kernels do no more.
func (n namespace) queuesServed() bool {
	c, err := n.dialNetfilter(1 << 12)
	if err != nil {
		return false
	}
	defer func() { _ = c.close() }() // nothing is lost with it
	const unbindFamily = 4
	m := startMessage(nil, messageQueueConfig, unix.NLM_F_ACK, 1, unix.AF_UNSPEC, 0)
	m = appendAttribute(m, attrCommand, unbindFamily, 0, 0, 0)
	endMessage(m, 0)
	if err := errors.Join(c.interruptAt(time.Now().Add(answerTimeout)), c.send(m)); err != nil {
		return false
	}
	served := false
	err = c.receive(func(h unix.NlMsghdr, body []byte) bool {
		served = h.Type == unix.NLMSG_ERROR && errorOf(body) == nil
		return false
	})
	return err == nil && served
}
