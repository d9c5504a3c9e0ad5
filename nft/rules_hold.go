package nft

import (
	"fmt"

	"github.com/google/nftables"
)

// HoldRate is how many packets per second are held at most, for what opens
// TCP connections and for all else apart. What is beyond is dropped and
// counted: a flood of spoofed packets at a moving bucket then costs some of
// one processor, and its senders cannot keep connections from opening by
// sending datagrams. DESIGN.md has the figures.
const HoldRate = 20_000

// theirsSize bounds what peers' flows may take of the kernel's memory.
const theirsSize = 1 << 18

// Names of the chains and sets of hold and ask.
const (
	chainTake = "take"
	chainAsk  = "ask"
	chainOpen = "open"
)

func setTake(service string) string { return service + "_take" }

// setReading is filled while this node's agent reads the queue. Whoever else
// has bound its number would be given our packets, and might let them in.
const setReading = "reading"

// setTheirs is the set of peers' flows whose elements have such fields.
func setTheirs(v6 bool, kind flowKind) string {
	name := "theirs"
	if kind == hostFlow {
		name = "theirs_host"
	}
	if v6 {
		name += "6"
	}
	return name
}

// readingSet is the set of that name; like a lease, what is in it ends by itself.
func readingSet() set {
	return set{name: setReading, key: nftables.TypeEtherType, timeout: true, comment: "the agent reads the queue"}
}

// holdSets hold the flows that a peer has, each for TheirsTime.
func holdSets() []set {
	var sets []set
	for _, v6 := range []bool{false, true} {
		addr := nftables.TypeIPAddr
		if v6 {
			addr = nftables.TypeIP6Addr
		}
		proto, port := nftables.TypeInetProto, nftables.TypeInetService
		sets = append(sets,
			set{name: setTheirs(v6, portFlow), key: concatenated(proto, addr, port, addr, port), timeout: true, size: theirsSize, comment: "flows that a peer has; of ICMP with identifier and type"},
			set{name: setTheirs(v6, hostFlow), key: concatenated(proto, addr, addr), timeout: true, size: theirsSize, comment: "the same of protocols without ports"})
	}
	return sets
}

func concatenated(types ...nftables.SetDatatype) nftables.SetDatatype {
	key, err := nftables.ConcatSetType(types...)
	if err != nil {
		panic(err) // at most five types are a valid concatenation
	}
	return key
}

func holdChains(q Queue) []chain {
	return []chain{inheritHeldChain(), drainHeldChain(), takeChain(), askChain(q), openChain(q)}
}

// takeChain: another node opens flows in this bucket until it has released
// it. Nothing is answered but what is known here from before, and a bare SYN not
// even then: it may be of a connection that was half open here when the bucket
// went, and that others have opened since. Other segments of TCP are of the other
// node's flows, or of nobody's: no answer lets them in.
func takeChain() chain {
	return chain{name: chainTake, rules: []rule{
		when(isTCP(), bareSYN(), goTo(chainOpen)),
		when(ctStatusConfirmed(), accept()),
		dropped("take: of a flow of the old owner", isTCP()),
		when(goTo(chainAsk)),
	}}
}

// inheritHeldChain: whether a packet without a SYN is of a flow of the old
// owner, that one has to be asked.
func inheritHeldChain() chain {
	return chain{name: chainInherit, rules: []rule{
		when(ctStatusConfirmed(), accept()),
		when(isTCP(), ctStateNew(), bareSYN(), accept()),
		dropped("inherit: of a flow of the old owner", isTCP()),
		when(goTo(chainAsk)),
	}}
}

// drainHeldChain: as drainChain, but protocols without a SYN keep their flows.
func drainHeldChain() chain {
	return chain{name: chainDrain, rules: []rule{
		dropped("drain: opens a flow", isTCP(), bareSYN()),
		when(ctStatusConfirmed(), accept()),
		dropped("drain: of no flow here"),
	}}
}

// askChain holds what may be of a flow of a peer.
func askChain(q Queue) chain {
	var rules []rule
	for _, v6 := range []bool{false, true} {
		ip := isIP(inet, v6)
		rules = append(rules,
			dropped("of a flow that a peer has", ip, flowIn(v6, portFlow)),
			dropped("of a flow that a peer has", ip, isICMP(v6), flowIn(v6, icmpFlow)),
			dropped("of a flow that a peer has", ip, flowIn(v6, hostFlow)))
	}
	return chain{name: chainAsk, rules: append(rules,
		dropped(fmt.Sprintf("held: more than %d in a second", HoldRate), more(HoldRate)),
		when(protocolIn(setReading), counter(), hold(q)).because(fmt.Sprintf("held: queue %d", QueueNumber)),
		dropped("not held: the agent has no queue"))}
}

// openChain holds what opens a TCP connection.
func openChain(q Queue) chain {
	return chain{name: chainOpen, rules: []rule{
		dropped(fmt.Sprintf("held: more than %d SYNs in a second", HoldRate), more(HoldRate)),
		when(protocolIn(setReading), counter(), hold(q)).because(fmt.Sprintf("held: SYN, queue %d", QueueNumber)),
		dropped("not held: SYN, the agent has no queue"),
	}}
}
