package raftstore

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// A first cluster is formed by one node, the candidate, when every node that
// its list leads to is reachable, belongs to no cluster and has promised
// itself to the candidate, in writing. The others join it. Two clusters of one
// set of nodes would need two candidates with a promise of one node, and a
// node gives a second promise only when the first has become worthless for
// ever: a promise goes to a ballot, a random number that the candidate drew
// when it stood for election, and a candidate never takes up a ballot again
// that it has once laid down or lost with its disk.

// promise is what a node that is in no cluster has bound itself to.
type promise struct {
	ServerID string `json:"server_id"`
	Listen   string `json:"listen"`
	Ballot   string `json:"ballot"`
}

// hello is what a node says of itself to whoever has the key.
type hello struct {
	Name     string   `json:"name"`
	ServerID string   `json:"server_id"`
	Listen   string   `json:"listen"`
	Peers    []string `json:"peers"`
	// Member says that the node belongs to a cluster.
	Member  bool    `json:"member"`
	Promise promise `json:"promise,omitzero"`
	Leader  string  `json:"leader,omitempty"` // the leader's address, if known
}

// ballot is the one under which the node is a candidate, or empty.
func (h hello) ballot() string {
	if h.Promise.ServerID != h.ServerID {
		return ""
	}
	return h.Promise.Ballot
}

// view is what a node has seen of the others, all of it after its own hello
// was as it stands here.
type view struct {
	self hello
	// seen has the answers by the address that was asked.
	seen map[string]hello
	// silent has the addresses that gave no answer, with the reason.
	silent map[string]error
}

// others lists the nodes seen, each once, in the order of their addresses.
func (v view) others() []hello {
	byID := map[string]hello{}
	for _, h := range v.seen {
		if h.ServerID != v.self.ServerID {
			byID[h.ServerID] = h
		}
	}
	return slices.SortedFunc(maps.Values(byID), func(a, b hello) int {
		return cmp.Or(compareAddresses(a.Listen, b.Listen), strings.Compare(a.ServerID, b.ServerID))
	})
}

// unasked lists the addresses that the view leads to and that were not asked.
func (v view) unasked() []string {
	todo := map[string]bool{}
	add := func(addresses ...string) {
		for _, a := range addresses {
			_, seen := v.seen[a]
			_, silent := v.silent[a]
			if a != "" && a != v.self.Listen && !seen && !silent {
				todo[a] = true
			}
		}
	}
	// A promise leads on too: who holds one waits for that candidate, and so
	// must all that wait for them.
	add(v.self.Peers...)
	add(v.self.Promise.Listen)
	for _, h := range v.seen {
		add(h.Peers...)
		add(h.Promise.Listen)
	}
	return slices.Sorted(maps.Keys(todo))
}

// compareAddresses orders addresses by number, the same on every node.
func compareAddresses(a, b string) int {
	x, errX := netip.ParseAddrPort(a)
	y, errY := netip.ParseAddrPort(b)
	if errX != nil || errY != nil {
		return strings.Compare(a, b)
	}
	return x.Compare(y)
}

// act is what a node that is in no cluster does next.
type act int

const (
	actWait      act = iota // for the nodes in step.nodes
	actJoin                 // through the members in step.nodes
	actStand                // draw a ballot and promise itself to it
	actPromise              // write step.promise down
	actBootstrap            // form the cluster
)

// step is a decision and whom it is about.
type step struct {
	act     act
	nodes   []string // addresses
	promise promise
	why     string
}

// decide says what the node of a view does next. It keeps the promises: see
// the top of this file.
func decide(v view) step {
	others := v.others()
	if members := addresses(others, func(h hello) bool { return h.Member }); len(members) > 0 {
		return step{act: actJoin, nodes: members}
	}
	if len(v.silent) > 0 {
		nodes := slices.Sorted(maps.Keys(v.silent))
		return step{act: actWait, nodes: nodes, why: v.silent[nodes[0]].Error()}
	}
	candidate := v.self
	if len(others) > 0 && compareAddresses(others[0].Listen, v.self.Listen) < 0 {
		candidate = others[0]
	}
	if bound := bindingPromise(v, others); bound != (promise{}) && bound.ServerID != candidate.ServerID {
		return step{act: actWait, nodes: []string{bound.Listen}, why: "promised to it"}
	}
	if candidate.ServerID != v.self.ServerID {
		return follow(v.self, candidate)
	}
	mine := v.self.ballot()
	if mine == "" {
		return step{act: actStand}
	}
	missing := addresses(others, func(h hello) bool { return h.Promise.Ballot != mine })
	if len(missing) > 0 {
		return step{act: actWait, nodes: missing, why: "has not promised itself to this node yet"}
	}
	return step{act: actBootstrap}
}

// follow is the decision of a node that is not the candidate and is free to
// promise itself to it.
func follow(self, candidate hello) step {
	wish := promise{ServerID: candidate.ServerID, Listen: candidate.Listen, Ballot: candidate.ballot()}
	switch {
	case wish.Ballot == "":
		return step{act: actWait, nodes: []string{candidate.Listen}, why: "is to form the cluster"}
	case self.Promise == wish:
		return step{act: actWait, nodes: []string{candidate.Listen}, why: "is forming the cluster"}
	}
	return step{act: actPromise, promise: wish}
}

// bindingPromise is the node's promise to another, while that may still form a
// cluster on it. A promise to itself binds nobody: it alone makes use of it.
func bindingPromise(v view, others []hello) promise {
	p := v.self.Promise
	if p == (promise{}) || p.ServerID == v.self.ServerID {
		return promise{}
	}
	for _, h := range others {
		if h.ServerID == p.ServerID && h.ballot() != p.Ballot {
			return promise{} // it has laid that ballot down
		}
	}
	for _, h := range others {
		if h.ServerID == p.ServerID {
			return p
		}
	}
	if h, ok := v.seen[p.Listen]; ok && h.ServerID != p.ServerID {
		return promise{} // its disk was wiped
	}
	return p
}

// addresses lists the addresses of the nodes that pick chooses.
func addresses(nodes []hello, pick func(hello) bool) []string {
	var chosen []string
	for _, h := range nodes {
		if pick(h) {
			chosen = append(chosen, h.Listen)
		}
	}
	return chosen
}
