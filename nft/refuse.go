package nft

import (
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"earshot/hashmode"
)

// A service that no node can serve is refused, by whoever would answer: what
// has come through the verdicts, and opens a flow. That is a chain of its own
// behind them, so that they stay as they are, and a packet that was held is
// refused as well once it has got its verdict.

func setRefuse(service string) string   { return service + "_refuse" }
func chainRefuse(service string) string { return "refuse_" + service }

// refusePriority is behind the verdicts (mangle, -150) and before anybody
// else's dstnat (-100): servers may be behind one.
const refusePriority = nftables.ChainPriority(-140)

// refused are the buckets in which what opens a flow is refused: all that the
// verdicts let it through in.
func (s Service) refused() hashmode.Set {
	if !s.Refuse {
		return hashmode.Set{}
	}
	return s.Own.Union(s.Inherit).Union(s.Take)
}

// unrefusing is the ruleset as a kernel that cannot refuse can hold it.
func (rs Ruleset) unrefusing() Ruleset {
	rs.Services = slices.Clone(rs.Services)
	for i := range rs.Services {
		rs.Services[i].MayRefuse, rs.Services[i].Refuse = false, false
	}
	return rs
}

// withRefusal adds what refuses, if any service may.
func withRefusal(t table, all []address) table {
	rules := []rule{when(fromLoopback(), accept())}
	for _, a := range all {
		v6 := a.Addr.Is6()
		for _, s := range a.Services {
			if !s.MayRefuse {
				continue
			}
			t.sets = append(t.sets, bucketSet(setRefuse(s.Name), s, "nobody can serve it: what opens a flow is refused"))
			t.chains = append(t.chains, refuseChain(s))
			for _, named := range portClauses(s) {
				rules = append(rules, when(isIP(inet, v6), ipDest(a.Addr), named, goTo(chainRefuse(s.Name))))
			}
		}
	}
	if len(rules) == 1 {
		return t
	}
	t.chains = append(t.chains, chain{name: "refusal", rules: rules,
		hook: &hook{name: "prerouting", num: *nftables.ChainHookPrerouting, priority: refusePriority}})
	return t
}

// refuseChain leaves to the kernel what it refuses by itself: segments of no
// connection. One that conntrack takes for invalid may be of a living one.
func refuseChain(s Service) chain {
	hash := hashOf(s)
	return chain{name: chainRefuse(s.Name), rules: []rule{
		when(ctStatusConfirmed(), accept()),
		when(isIP(inet, hash.v6), hash.in(), notIn(setRefuse(s.Name)), accept()),
		when(isTCP(), ctStateNew(), bareSYN(), counter(), rejectReset()).because("nobody can serve it"),
		when(notTCP(), ctStateNew(), counter(), rejectUnreachable()).because("nobody can serve it"),
	}}
}

// rejectReset and rejectUnreachable answer as a host does on which nobody
// listens at the port.
func rejectReset() clause {
	return clause{"reject with tcp reset", []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}}
}

func rejectUnreachable() clause {
	return clause{"reject with icmpx port-unreachable", []expr.Any{
		&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH},
	}}
}
