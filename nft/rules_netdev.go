package nft

import "github.com/google/nftables"

// netdevTable drops foreign frames at the cheapest place there is, and makes
// frames to the cluster MAC packets to this host.
func netdevTable(all []address) table {
	t := table{family: netdev, sets: append(leaseSets(), fixedSets()...), chains: []chain{leaseChain()}}
	for _, a := range all {
		for _, s := range a.Services {
			t.sets = append(t.sets, bucketSet(setHeard(s.Name), s, "all but foreign"))
		}
		t.chains = append(t.chains, hostChain(a), heardChain(a), frameChain(a, !straight(a.Interface, all)))
	}
	for _, ifname := range interfaces(all) {
		t.chains = append(t.chains, ingressChain(ifname, all))
	}
	return t
}

// mostStraight is how many rules that drop foreign frames may stand in the
// chain of an interface, which every frame of it sees.
const mostStraight = 4

// straight reports whether an interface's foreign frames are dropped in its
// own chain. A goto costs as much as two comparisons; with many addresses and
// ports it is cheaper all the same.
func straight(ifname string, all []address) bool {
	rules := 0
	for _, a := range all {
		if a.Interface == ifname {
			rules += len(foreignRules(a))
		}
	}
	return rules <= mostStraight
}

// ingressChain drops the foreign frames that there are most of, if they are
// few kinds, and sends all else for a shared address to its chain.
func ingressChain(ifname string, all []address) chain {
	var stealthy, foreign, rest []rule
	for _, a := range all {
		if a.Interface != ifname {
			continue
		}
		if !a.Addr.Is6() && stealth(a.MAC) {
			// A client that asks again asks the MAC that it knows.
			stealthy = append(stealthy, when(isARP(), isEthernet(), etherDest(a.MAC), setHost(), accept()))
		}
		foreign = append(foreign, foreignRules(a)...)
		rest = append(rest, when(isIP(netdev, a.Addr.Is6()), ipDest(a.Addr), goTo(chainAddress(a.Addr))))
	}
	if !straight(ifname, all) {
		foreign = nil
	}
	return chain{
		name:  chainInterface(ifname),
		hook:  &hook{name: "ingress", num: *nftables.ChainHookIngress, priority: -500, device: ifname},
		rules: append(append(stealthy, foreign...), rest...),
	}
}

// foreignRules drop what services name by port and this node has no part in,
// each in one rule and without help from others: what stands first in it is
// what most frames differ in. Fragments have no ports yet.
func foreignRules(a address) []rule {
	v6 := a.Addr.Is6()
	var rules []rule
	for _, s := range a.Services {
		for _, named := range portClauses(s) {
			rules = append(rules, dropped("foreign bucket",
				named, isIP(netdev, v6), ipDest(a.Addr), whole(v6), hashOf(s).in(), notIn(setHeard(s.Name))))
		}
	}
	return rules
}

// frameChain is the way of a frame to a shared address that foreignRules leave
// over; they come with it if it is to have them. What cannot be hashed yet
// (fragments) or at all (ICMP errors, neighbour discovery) passes as a packet
// to this host on every node (rule P20); inet prerouting decides about it.
// Most frames are of a service's port, so that comes before ICMP.
func frameChain(a address, withForeign bool) chain {
	v6 := a.Addr.Is6()
	host := goTo(chainHost(a.Addr))
	var rules []rule
	if withForeign {
		rules = foreignRules(a)
	}
	rules = append(rules, byPort(a, func(string) string { return chainHeard(a.Addr) })...)
	rules = append(rules, when(isIP(netdev, v6), fragment(v6), host), when(icmpError(v6), host))
	if v6 {
		rules = append(rules, when(neighbour(), host))
	}
	rules = append(rules,
		dropped("test frame", isTestFrame()),
		dropped("foreign bucket", isIP(netdev, v6), restHash(a).in(), notIn(setHeard(a.Services[0].Name))),
		when(goTo(chainHeard(a.Addr))))
	return chain{name: chainAddress(a.Addr), rules: rules}
}

// heardChain: the bucket came first, now the lease (rule P21), then the MAC.
func heardChain(a address) chain {
	return chain{name: chainHeard(a.Addr), rules: []rule{when(jump(chainLease)), when(goTo(chainHost(a.Addr)))}}
}

// hostChain leaves frames to other MACs alone: another host's frame
// (PACKET_OTHERHOST) must not become ours. To the kernel, a stealth MAC is
// another host's, too: later than here it would be dropped.
func hostChain(a address) chain {
	return chain{name: chainHost(a.Addr), rules: []rule{when(isEthernet(), etherDest(a.MAC), setHost()), when(accept())}}
}
