package coordinator

import (
	"context"
	"time"

	"earshot/coordinator/health"
	"earshot/hashmode"
	"earshot/nft"
	"earshot/raftstore"
)

// Store is the replicated state, as raftstore keeps it.
type Store interface {
	// State is the newest applied state. It is never written to again.
	State() *raftstore.State
	// Changed signals after each applied command and change of leadership.
	Changed() (<-chan struct{}, func())
	// Propose commits a command; on the leader only.
	Propose(ctx context.Context, c raftstore.Command) (uint64, error)
	Leadership() raftstore.Leadership
	// Term is the newest term that this server knows of.
	Term() uint64
	// LastCommand is the index of the newest command in this server's log.
	LastCommand() uint64
	// LastChange is the index of the newest command in it that can change
	// anything.
	LastChange() uint64
	Servers() []raftstore.Server
	// Vote gives a server a vote or takes it away; on the leader only.
	Vote(ctx context.Context, server raftstore.Server, vote bool) error
	// Expel takes a server out of the Raft cluster; on the leader only.
	Expel(ctx context.Context, id string) error
	ServerID() string
	// Process is the number of this process, greater than those of the node's
	// before.
	Process() int64
	// Transfer hands the leadership over, if it is ours.
	Transfer(ctx context.Context) error
	// Resign has the others hear no leader here any more, whatever this one's
	// Raft still does. Only the end of the agent may follow.
	Resign()
	// SetWeight says what this node asks to be taken for from now on.
	SetWeight(weight int)
	// Halted says why the state can no longer be followed, or nil.
	Halted() error
}

// Kernel is this node's data plane, as package nft keeps it.
type Kernel interface {
	Held() (index uint64, ok bool, err error)
	// Opened reads in which buckets of the services new flows are let through.
	Opened(services []string) (map[string]hashmode.Set, error)
	Apply(nft.Ruleset) error
	// Forget lets an older map be applied; not while a lease runs.
	Forget() error
	Lease(until time.Time) error
	Revoke() error
	LeaseLeft() (time.Duration, error)
	Announce([]nft.Service) error
	// Carrier reports whether the interface is there, up and connected.
	Carrier(iface string) (bool, error)
	Watch(ctx context.Context, changed func()) error
	Resync()
	// Queue tells how packets can be held.
	Queue() nft.Queue
	// Hold gives judge what is held until ctx ends; ready is called when it
	// begins.
	Hold(ctx context.Context, ready func(), judge func([]nft.HeldPacket)) error
	Decide([]nft.Decision) error
	// Queued tells the newest packet that the kernel holds, and the newest that
	// judge was given.
	Queued() (last, judged nft.HeldID)
	// Known tells which of the flows this node has.
	Known([]nft.Flow) ([]bool, error)
	// Disown forgets the flows in buckets, but for TCP's.
	Disown(services []nft.Service, buckets map[string]hashmode.Set) error
	// AskAgain forgets which flows are others'.
	AskAgain() error
	Conntrack() (nft.ConntrackUse, error)
	// Barrier waits until no packet is under way that met the rules as they
	// were before.
	Barrier() error
	// Strangers lists hosts outside the cluster that claim a shared address.
	Strangers() []nft.Stranger
	Flows([]nft.Service) (map[string]map[hashmode.Bucket]nft.FlowCount, error)
	// NewFlows reads how many flows have begun in each bucket of the services
	// that have them counted, ever or since the bucket came. A service that the
	// kernel does not count is left out.
	NewFlows([]nft.Service) (map[string]map[hashmode.Bucket]uint64, error)
	// Reset ends the TCP connections in buckets of one of the services, and
	// tells their clients.
	Reset(services []nft.Service, service string, buckets hashmode.Set) (int, error)
}

// Health judges this node's own servers, as package health does.
type Health interface {
	// Run checks until ctx ends. It calls changed after each change of a
	// verdict.
	Run(ctx context.Context, changed func()) error
	// Verdicts are by service; one without checks has none.
	Verdicts() map[string]health.Verdict
}

// Peers carries a request to another node's agent.
type Peers interface {
	// Call posts the request to path at the peer's address and reads the
	// answer. A peer's refusal is a *RemoteError.
	Call(ctx context.Context, addr, path string, request, answer any) error
}
