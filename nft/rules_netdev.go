package nft

import "github.com/google/nftables"

// netdevTable drops foreign frames at the cheapest place there is, and makes
// frames to the cluster MAC packets to this host.
func netdevTable(all []address) table {
	t := table{family: netdev, sets: append(leaseSets(), fixedSets()...), chains: []chain{leaseChain()}}
	for _, a := range all {
		for _, s := range a.Services {
			t.sets = append(t.sets, bucketSet(setHeard(s.Name), s, "own, inherit and drain"))
		}
		t.chains = append(t.chains, hostChain(a), frameChain(a))
		for _, s := range a.Services {
			t.chains = append(t.chains, chain{name: chainService(s.Name), rules: heardRules(a, s, hashOf(s))})
		}
	}
	for _, ifname := range interfaces(all) {
		t.chains = append(t.chains, ingressChain(ifname, all))
	}
	return t
}

// ingressChain sends packets for a shared address to its chain. The chain
// sees every frame of the interface: the cheapest questions come first.
func ingressChain(ifname string, all []address) chain {
	var rules []rule
	has := map[bool]bool{} // by IPv6
	for _, a := range all {
		if a.Interface != ifname {
			continue
		}
		has[a.Addr.Is6()] = true
		if !a.Addr.Is6() && stealth(a.MAC) {
			// A client that asks again asks the MAC that it knows.
			rules = append(rules, when(isARP(), isEthernet(), etherDest(a.MAC), setHost(), accept()))
		}
	}
	if len(has) == 1 {
		rules = append(rules, when(notIP(has[true]), accept()))
	}
	for _, a := range all {
		if a.Interface == ifname {
			rules = append(rules, when(isIP(netdev, a.Addr.Is6()), ipDest(a.Addr), goTo(chainAddress(a.Addr))))
		}
	}
	return chain{
		name:  chainInterface(ifname),
		hook:  &hook{name: "ingress", num: *nftables.ChainHookIngress, priority: -500, device: ifname},
		rules: rules,
	}
}

// frameChain is the way of a frame to a shared address. What cannot be hashed
// yet (fragments) or at all (ICMP errors, neighbour discovery) passes as a
// packet to this host on every node (rule P20); inet prerouting decides about
// it. Most frames are of a service's port, so that comes before ICMP.
func frameChain(a address) chain {
	v6 := a.Addr.Is6()
	rules := []rule{when(isIP(netdev, v6), fragment(v6), goTo(chainHost(a.Addr)))}
	rules = append(rules, byPort(a, chainService)...)
	rules = append(rules, when(icmpError(v6), goTo(chainHost(a.Addr))))
	if v6 {
		rules = append(rules, when(neighbour(), goTo(chainHost(a.Addr))))
	}
	rules = append(rules, heardRules(a, a.Services[0], restHash(a))...)
	return chain{name: chainAddress(a.Addr), rules: rules}
}

// heardRules: the bucket first, then the lease (rule P21), then the MAC.
func heardRules(a address, s Service, hash hashed) []rule {
	return []rule{
		dropped("foreign bucket", isIP(netdev, hash.v6), hash.in(), notIn(setHeard(s.Name))),
		when(jump(chainLease)),
		when(goTo(chainHost(a.Addr))),
	}
}

// hostChain leaves frames to other MACs alone: another host's frame
// (PACKET_OTHERHOST) must not become ours. To the kernel, a stealth MAC is
// another host's, too: later than here it would be dropped.
func hostChain(a address) chain {
	return chain{name: chainHost(a.Addr), rules: []rule{when(isEthernet(), etherDest(a.MAC), setHost()), when(accept())}}
}
