package nft

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
)

// Chains of the verdict table.
const (
	chainInherit = "inherit"
	chainDrain   = "drain"
	chainError   = "icmp_errors"
)

// inetTable decides about packets after conntrack and reassembly, whatever
// interface they came by, and keeps silent outwards.
func inetTable(all []address, q Queue) table {
	t := table{family: inet, sets: append(leaseSets(), fixedSets()...)}
	t.sets = append(t.sets, heldSet(), sharedSet(false), sharedSet(true), formerSet())
	t.chains = []chain{leaseChain(), inheritChain(), drainChain(), errorChain()}
	holds := q != QueueNone
	if holds {
		t.sets = append(append(t.sets, readingSet()), holdSets()...)
		t.chains = append([]chain{leaseChain(), errorChain()}, holdChains(q)...)
	}
	pre := []rule{when(fromLoopback(), accept())}
	out := []rule{when(toLoopback(), accept())}
	for _, a := range all {
		for _, s := range a.Services {
			t.sets = append(t.sets,
				bucketSet(setOwn(s.Name), s, "everything is answered"),
				bucketSet(setInherit(s.Name), s, "taken over: what opens a flow and what is known"),
				bucketSet(setDrain(s.Name), s, "given away: what is known"),
				bucketSet(setClosing(s.Name), s, "given away just now: what came before is still answered"))
			if holds {
				t.sets = append(t.sets, bucketSet(setTake(s.Name), s, "to be taken over: what is known, the rest is held"))
			}
			t.chains = append(t.chains,
				chain{name: chainService(s.Name), rules: verdictRules(s, hashOf(s), holds)},
				chain{name: chainReply(s.Name), rules: replyRules(s, hashOf(s), holds)},
				chain{name: chainSent(s.Name), rules: sentRules(s, holds)})
		}
		t.chains = append(t.chains, packetChain(a, holds), answerChain(a, holds))
		pre = append(pre, when(isIP(inet, a.Addr.Is6()), ipDest(a.Addr), goTo(chainAddress(a.Addr))))
		out = append(out, when(isIP(inet, a.Addr.Is6()), ipSource(a.Addr), goTo(chainFrom(a.Addr))))
	}
	for _, a := range all {
		if a.Addr.Is6() {
			// The kernel would warn that somebody else has our address.
			pre = append(pre, dropped("a peer announces "+a.Addr.String(),
				isIP(inet, true), neighbourMessage(advertisement, targetMAC, a.Addr), hasNeighbourMAC(a.MAC)))
		}
	}
	t = withRefusal(withCounting(t, all), all)
	t.chains = append(t.chains,
		chain{name: "prerouting", hook: &hook{name: "prerouting", num: *nftables.ChainHookPrerouting, priority: *nftables.ChainPriorityMangle}, rules: pre},
		chain{name: "output", hook: &hook{name: "output", num: *nftables.ChainHookOutput, priority: *nftables.ChainPriorityMangle}, rules: out})
	return t
}

// packetChain is the way of a packet to a shared address.
func packetChain(a address, holds bool) chain {
	v6 := a.Addr.Is6()
	rules := []rule{
		when(jump(chainLease)),
		when(icmpError(v6), goTo(chainError)),
	}
	if v6 {
		rules = append(rules, when(neighbour(), accept()))
	}
	rules = append(rules, byPort(a, chainService)...)
	return chain{name: chainAddress(a.Addr), rules: append(rules, verdictRules(a.Services[0], restHash(a), holds)...)}
}

// verdictRules are the design's verdict table. Own accepts everything: what
// belongs to no flow makes the kernel answer RST, and the client of a dead
// node learns at once. Before a packet is foreign, the sets that came first
// are looked at again: its bucket may have moved to one of them meanwhile
// (DESIGN.md, "Between two look-ups").
func verdictRules(s Service, hash hashed, holds bool) []rule {
	bucketIn := func(set string, then clause) rule { return when(isIP(inet, hash.v6), hash.in(), in(set), then) }
	known := []rule{
		bucketIn(setOwn(s.Name), accept()),
		bucketIn(setInherit(s.Name), goTo(chainInherit)),
		bucketIn(setDrain(s.Name), goTo(chainDrain)),
	}
	rules := known
	if holds {
		rules = append(slices.Clip(rules), bucketIn(setTake(s.Name), goTo(chainTake)))
	}
	return append(append(slices.Clip(rules), known...), dropped("foreign bucket"))
}

// inheritChain: other segments belong to flows that the old owner still has.
// Without a queue to hold it in, a protocol without SYN is cut over at once
// (rule P19).
func inheritChain() chain {
	return chain{name: chainInherit, rules: []rule{
		when(ctStatusConfirmed(), accept()),
		when(notTCP(), accept()),
		when(isTCP(), ctStateNew(), bareSYN(), accept()),
		dropped("inherit: of a flow of the old owner"),
	}}
}

// drainChain: a bare SYN belongs to the new owner even if its flow is known
// (rule P17), and so does what has no SYN (rule P19).
func drainChain() chain {
	return chain{name: chainDrain, rules: []rule{
		dropped("drain: not TCP", notTCP()),
		dropped("drain: opens a flow", isTCP(), bareSYN()),
		when(ctStatusConfirmed(), accept()),
		dropped("drain: of no flow here"),
	}}
}

// errorChain: a router's message goes to whoever has the flow.
func errorChain() chain {
	return chain{name: chainError, rules: []rule{
		when(ctStateRelated(), accept()),
		dropped("ICMP error about no flow here"),
	}}
}

// answerChain is the way out of a packet from a shared address. What begins a
// flow for its client leaves only from a bucket of this node's: SYN-ACKs (rules
// P18 and P17), and datagrams, with which a server may begin again, for
// conntrack, a flow that another node has by now.
func answerChain(a address, holds bool) chain {
	rules := []rule{when(jump(chainLease))}
	if a.Addr.Is6() {
		rules = append(rules, neighbourRules(a)...)
	}
	rules = append(rules, when(isTCP(), notSYNACK(), accept()))
	for _, s := range a.Services {
		for _, part := range partsOf(s, sourcePort) {
			to := chainSent(s.Name)
			if part.tcp {
				to = chainReply(s.Name)
			}
			rules = append(rules, when(part.clause, goTo(to)))
		}
	}
	rules = append(rules, when(notTCP(), accept()))
	return chain{name: chainFrom(a.Addr), rules: append(rules, replyRules(a.Services[0], restHash(a), holds)...)}
}

// neighbourRules have neighbour discovery say the cluster MAC for a shared
// address: in advertisements, and in the solicitations that a node sends when
// it answers a client whose MAC it does not know. From such a one the client
// would learn the node's own MAC, and bring its frames to this node alone.
func neighbourRules(a address) []rule {
	return []rule{
		when(isIP(inet, true), neighbourMessage(advertisement, targetMAC, a.Addr), setNeighbourMAC(a.MAC)).because("advertise " + a.MAC.String()),
		when(isIP(inet, true), neighbourMessage(solicitation, sourceMAC, netip.Addr{}), setNeighbourMAC(a.MAC)).because("ask as " + a.MAC.String()),
	}
}

// replyRules let a SYN-ACK out only from a bucket in which this node opens
// flows, or did until just now.
func replyRules(s Service, hash hashed, holds bool) []rule {
	return leaveFrom(openSets(s, holds, setClosing(s.Name)), hash, "SYN-ACK: another node's bucket")
}

// sentRules let what is not TCP out from those, and from all buckets that this
// node has given away: it answers what came before.
func sentRules(s Service, holds bool) []rule {
	return leaveFrom(openSets(s, holds, setDrain(s.Name)), hashOf(s), "sent from another node's bucket")
}

// openSets are those of the buckets in which this node opens flows, and one of
// those that it has given away. Own comes first, so that most take one look-up;
// all come twice, as in verdictRules.
func openSets(s Service, holds bool, given string) []string {
	sets := []string{setOwn(s.Name), setInherit(s.Name)}
	if holds {
		sets = append(sets, setTake(s.Name))
	}
	sets = append(sets, given)
	return append(slices.Clip(sets), sets...)
}

// leaveFrom lets out what is in a bucket of one of the sets.
func leaveFrom(sets []string, hash hashed, comment string) []rule {
	var rules []rule
	for _, set := range sets {
		rules = append(rules, when(isIP(inet, hash.v6), hash.out(), in(set), accept()))
	}
	return append(rules, dropped(comment))
}

// heldSet holds one element, the index of the map that the sets are from.
func heldSet() set {
	return set{name: setHeld, key: concatenated(nftables.TypeMark, nftables.TypeMark), comment: "the map's index, high . low"}
}

// formerSet names interfaces and, in comments, settings before ours.
func formerSet() set {
	return set{name: setFormer, key: nftables.TypeIFName, comment: "what flush sets back"}
}

// sharedSet names the shared addresses and, in comments, where they live.
func sharedSet(v6 bool) set {
	key := nftables.TypeIPAddr
	if v6 {
		key = nftables.TypeIP6Addr
	}
	return set{name: setSharedOf(v6), key: key, comment: "what flush removes"}
}
