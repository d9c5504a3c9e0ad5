package coordinator

// Status is what `earshot status --json` prints. Its names are a promise:
// add to them, never change their meaning.
type Status struct {
	Cluster  ClusterStatus   `json:"cluster"`
	Nodes    []NodeStatus    `json:"nodes"`
	Services []ServiceStatus `json:"services"`
	// Warnings are findings that somebody should act on, in plain words.
	Warnings []string `json:"warnings"`
}

// ClusterStatus is the control plane as a whole.
type ClusterStatus struct {
	// Leader is the name of the leading node; empty when there is none.
	Leader string `json:"leader"`
	Epoch  uint64 `json:"epoch"`
	// Quorum: a leader that a majority follows can be reached from here.
	Quorum bool `json:"quorum"`
	// Node is the node that was asked.
	Node string `json:"node"`
	// LeaseMS is the configured lease, in milliseconds.
	LeaseMS int64 `json:"lease_ms"`
}

// The states of a node.
const (
	StateIn       = "in"
	StateOut      = "out"
	StateDraining = "draining" // out, and flows of its own are left
	StateFailed   = "failed"
)

// The roles of a node.
const (
	RoleNode    = "node"
	RoleWitness = "witness"
)

// NodeStatus is one node as the leader sees it.
type NodeStatus struct {
	Name   string `json:"name"`
	Listen string `json:"listen"`
	State  string `json:"state"`
	// Alive: the node holds, or may hold, a lease.
	Alive  bool `json:"alive"`
	Weight int  `json:"weight"`
	// LeaseMS is how much longer the node may answer, in milliseconds, at the
	// least; zero when it is silent.
	LeaseMS int64 `json:"lease_ms"`
	Voter   bool  `json:"voter"`
	// Role is "node", or "witness" for one that votes and never answers.
	Role string `json:"role,omitempty"`
	// Restarting: the node has asked to be waited for.
	Restarting bool   `json:"restarting,omitempty"`
	Version    string `json:"version,omitempty"`
	// Queue is the length of the node's run queue per processor.
	Queue float64 `json:"queue"`
	// Problems are what the node says is wrong with it.
	Problems []string `json:"problems,omitempty"`
	// Losses is how often the node has failed lately: good conduct has it
	// forgotten.
	Losses int `json:"losses,omitempty"`
	// HeldUntil is when the node will have proved itself and is given buckets,
	// if nothing happens meanwhile: RFC 3339, by the leader's clock. HeldMS is
	// how long that is, in milliseconds.
	HeldUntil string `json:"held_until,omitempty"`
	HeldMS    int64  `json:"held_ms,omitempty"`
}

// ServiceStatus is one service and who answers for which of its buckets.
type ServiceStatus struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	MAC     string `json:"mac"`
	Hash    string `json:"hash"`
	// Prefix is the length of the clients' networks, by which hash mode
	// sourcenet goes.
	Prefix  int    `json:"prefix,omitempty"`
	Buckets int    `json:"buckets"`
	Seed    uint32 `json:"seed"`
	// Balance is "even", or "load" for shares that follow the nodes' load.
	Balance string `json:"balance,omitempty"`
	// Refuses: no node can serve the service, and new flows are refused.
	Refuses bool `json:"refuses,omitempty"`
	// Ports that the service names; empty means everything.
	Ports []string `json:"ports"`
	// Nodes lists every node, also those without a bucket.
	Nodes []ShareStatus `json:"nodes"`
	// Ownerless lists buckets that no node answers for.
	Ownerless string `json:"ownerless,omitempty"`
}

// ShareStatus is a node's part of a service. Buckets are sorted ranges.
type ShareStatus struct {
	Name string `json:"name"`
	// Own: the node answers for these. Inherit, a part of them: other nodes
	// may still have flows there. Waiting, too: given to the node, which
	// waits for the old owner's release. Drain: given away, flows are left.
	Own     string `json:"own"`
	Inherit string `json:"inherit"`
	Waiting string `json:"waiting,omitempty"`
	Drain   string `json:"drain"`
	Pinned  string `json:"pinned,omitempty"`
	// Unfit is why the node cannot serve the service now: its check fails,
	// the service's interface is missing or has no carrier, or the kernel refuses
	// the address or MAC. Empty: it can.
	Unfit string `json:"unfit,omitempty"`
	// Flows in the node's conntrack for this service. Closing ones are not
	// counted.
	Flows int `json:"flows"`
	// Closing: TCP connections of which one side has sent its FIN.
	Closing int `json:"closing"`
	// OldestMS is the age of the node's oldest flow, where its kernel keeps it
	// (nf_conntrack_timestamp).
	OldestMS int64 `json:"oldest_ms,omitempty"`
	// DrainLeftMS is the time until all drains of the node are over at the
	// latest.
	DrainLeftMS int64 `json:"drain_left_ms,omitempty"`
	// HeldUntil and HeldMS are the node's, or its own for this service, which it
	// could not serve lately.
	HeldUntil string `json:"held_until,omitempty"`
	HeldMS    int64  `json:"held_ms,omitempty"`
	// Why says why the node is given no bucket, in words.
	Why string `json:"why,omitempty"`
}

// Which is the answer to `earshot which`.
type Which struct {
	Service string `json:"service"`
	Client  string `json:"client"`
	Bucket  uint32 `json:"bucket"`
	// Node opens flows in the bucket; empty when nobody does.
	Node string `json:"node"`
	// From may still have flows of the client.
	From []string `json:"from"`
}
