// Package event tells what changes in a cluster, as one of its nodes sees it:
// for `earshot events` and for hooks. What has happened is derived from two
// views of the cluster (Derive), a pure function; the rest brings it to those
// who listen.
package event

import "time"

// Type says what happened. The names are a promise: add to them, never change
// their meaning.
type Type string

// What happens to nodes.
const (
	// Join: the node is a new member, or an old one with a new disk.
	Join Type = "join"
	// Leave: the node was forgotten.
	Leave Type = "leave"
	// Fail: the node was judged dead; Back: it was heard again.
	Fail Type = "fail"
	Back Type = "back"
	// Out and In are the operator's wishes, as they are committed.
	Out Type = "out"
	In  Type = "in"
	// Sick: the node cannot serve the service, though it is alive. Well: it can.
	Sick Type = "sick"
	Well Type = "well"
	// Leader: the node leads now.
	Leader Type = "leader"
)

// What happens to the node that tells it.
const (
	// Quorum: a leader that a majority follows takes this node's renewals.
	// NoQuorum: none has for a lease.
	Quorum   Type = "quorum"
	NoQuorum Type = "no_quorum"
	// Lease: the node answers for its buckets. NoLease: it is silent.
	Lease   Type = "lease"
	NoLease Type = "no_lease"
	// Repair: somebody else changed what is Earshot's in the kernel, and it is
	// as it should be again.
	Repair Type = "repair"
	// Warning: there is a new warning in the status. Cleared: it is gone.
	Warning Type = "warning"
	Cleared Type = "cleared"
	// Reload: the node read its config again.
	Reload Type = "reload"
	// Missed stands for events that a slow listener did not get.
	Missed Type = "missed"
)

// What happens to services and shares.
const (
	// Define, Change, Remove: a service of the cluster.
	Define Type = "define"
	Change Type = "change"
	Remove Type = "remove"
	// Gain: the node opens flows in the buckets. Lose: it does no more.
	Gain Type = "gain"
	Lose Type = "lose"
	// Drain: the node gave the buckets away and keeps flows there. Drained: not
	// any more.
	Drain   Type = "drain"
	Drained Type = "drained"
)

// Types are all types of events, in the order of the documentation.
func Types() []Type {
	return []Type{
		Join, Leave, Fail, Back, Out, In, Sick, Well, Leader,
		Quorum, NoQuorum, Lease, NoLease,
		Define, Change, Remove, Gain, Lose, Drain, Drained,
		Repair, Warning, Cleared, Reload, Missed,
	}
}

// OfNode reports a type that concerns one node's kernel or server: of another
// node's, this one only knows.
func (t Type) OfNode() bool {
	switch t {
	case Gain, Lose, Drain, Drained, Sick, Well:
		return true
	}
	return false
}

// Event is one thing that happened.
type Event struct {
	// Seq rises by one with each event of an agent's process.
	Seq uint64 `json:"seq"`
	// Time is when the node that tells it learned of it.
	Time time.Time `json:"time"`
	Type Type      `json:"event"`
	// By is the node that tells it.
	By string `json:"by"`
	// Node is the one that the event is about.
	Node    string `json:"node,omitempty"`
	Service string `json:"service,omitempty"`
	// Buckets are sorted ranges, and Count says how many they are.
	Buckets string `json:"buckets,omitempty"`
	Count   int    `json:"count,omitempty"`
	// Reason is in words, for people.
	Reason string `json:"reason,omitempty"`
	// Epoch is the version of the map that brought the event.
	Epoch uint64 `json:"epoch,omitempty"`
	// Missed is how many events are missing here.
	Missed uint64 `json:"missed,omitempty"`
}
