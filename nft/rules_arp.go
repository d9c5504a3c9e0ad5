package nft

import "github.com/google/nftables"

// arpTable has ARP say the cluster MAC for a shared address: under a lease,
// and on the service's interface alone. Frames keep the interface's own MAC
// as their source, so that no switch learns the cluster MAC.
func arpTable(all []address) table {
	t := table{family: arpFamily, sets: leaseSets(), chains: []chain{leaseChain()}}
	var out []rule
	for _, a := range all {
		if !a.Addr.Is4() {
			continue
		}
		t.chains = append(t.chains, chain{name: chainFrom(a.Addr), rules: []rule{
			dropped("other interface", outNot(a.Interface)),
			when(jump(chainLease)),
			when(setARPSource(a.MAC), accept()),
		}})
		out = append(out, when(arpSource(a.Addr), goTo(chainFrom(a.Addr))))
	}
	t.chains = append(t.chains, chain{name: "output", hook: &hook{name: "output", num: arpOut, priority: *nftables.ChainPriorityFilter}, rules: out})
	return t
}

// arpOut is NF_ARP_OUT.
const arpOut nftables.ChainHook = 1
