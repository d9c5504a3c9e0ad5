package nft

import (
	"slices"

	"github.com/google/nftables"

	"earshot/hashmode"
)

// The flows that begin are counted per bucket, for a service that wants it:
// flows that last no longer than a moment are in no list of open ones. Each
// element of a set of buckets has a counter, which a look-up adds to. That is
// a chain of its own behind the verdicts, so that whatever lets a flow in
// counts it, held packets too, and what is known already leaves it first.

func setNew(service string) string     { return service + "_new" }
func chainCount(service string) string { return "count_" + service }

// countPriority is behind the verdicts (mangle, -150) and before what refuses.
const countPriority = nftables.ChainPriority(-145)

// counted are the buckets in which new flows are counted: all that the
// verdicts let them in. A bucket that comes starts from zero.
func (s Service) counted() hashmode.Set {
	return s.Own.Union(s.Inherit).Union(s.Take)
}

// uncounting is the ruleset as a kernel that cannot count can hold it.
func (rs Ruleset) uncounting() Ruleset {
	rs.Services = slices.Clone(rs.Services)
	for i := range rs.Services {
		rs.Services[i].CountNew = false
	}
	return rs
}

// withCounting adds what counts, if any service wants it.
func withCounting(t table, all []address) table {
	rules := []rule{when(ctStatusConfirmed(), accept())}
	for _, a := range all {
		for _, s := range a.Services {
			if !s.CountNew {
				continue
			}
			flows := bucketSet(setNew(s.Name), s, "counts the flows that begin")
			flows.counter = true
			t.sets = append(t.sets, flows)
			t.chains = append(t.chains, countChain(s))
			for _, named := range portClauses(s) {
				rules = append(rules, when(isIP(inet, a.Addr.Is6()), ipDest(a.Addr), named, goTo(chainCount(s.Name))))
			}
		}
	}
	if len(rules) == 1 {
		return t
	}
	t.chains = append(t.chains, chain{name: "counting", rules: rules,
		hook: &hook{name: "prerouting", num: *nftables.ChainHookPrerouting, priority: countPriority}})
	return t
}

// countChain: what conntrack calls invalid, or does not track, has no state
// and begins no flow.
func countChain(s Service) chain {
	hash := hashOf(s)
	return chain{name: chainCount(s.Name), rules: []rule{
		when(ctStateNew(), isIP(inet, hash.v6), hash.in(), in(setNew(s.Name)), accept()).because("counted in the set"),
	}}
}
