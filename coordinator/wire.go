package coordinator

import (
	"time"

	"earshot/nft"
)

// The requests of the peers' API, as JSON over HTTP between nodes that have
// proved that they know the cluster key. Paths carry the version.
const (
	pathRenew   = "/v1/renew"
	pathProbe   = "/v1/probe"
	pathHeld    = "/v1/held"
	pathPropose = "/v1/propose"
	pathStatus  = "/v1/status"
	pathFlows   = "/v1/flows"
	pathForget  = "/v1/forget"
	pathWhose   = "/v1/whose"
	pathHear    = "/v1/hear"
	pathHeat    = "/v1/heat"
)

// renewal asks the leader for a lease.
type renewal struct {
	Node     string `json:"node"`
	ServerID string `json:"server_id"`
	// Process is when the asking agent started, in nanoseconds since 1970 by
	// the node's clock: it tells a request from one that was sent, and got
	// delayed, before a restart.
	Process int64 `json:"process"`
	// Number counts the renewals that the process has made: one that overtakes
	// another knows better what the node can serve.
	Number uint64 `json:"number,omitempty"`
	level
	// Rest asks for a restart lease of this length; zero for an ordinary one.
	Rest time.Duration `json:"rest,omitempty"`
	// Lease is how long the node answers by an ordinary one; zero from a node of
	// an older version.
	Lease time.Duration `json:"lease,omitempty"`
	// Resting: the node's kernel may still hold a restart lease.
	Resting bool `json:"resting,omitempty"`
	// Silent: the node had no lease when it asked.
	Silent   bool     `json:"silent,omitempty"`
	Version  string   `json:"version,omitempty"`
	Problems []string `json:"problems,omitempty"`
	// Unfit says, by service, why the node cannot serve it.
	Unfit map[string]string `json:"unfit,omitempty"`
	// Spare has what it can answer for all the same if nobody serves it.
	Spare map[string]bool `json:"spare,omitempty"`
	// Profile is nil from a node of an older version.
	Profile *profile `json:"profile,omitempty"`
	// Queue is the length of the node's run queue per processor.
	Queue float64 `json:"queue,omitempty"`
}

// grant is the leader's yes: the lease holds from the sending of the request
// (rule P1) once the kernel holds a map of at least Bound (rule P3).
type grant struct {
	Term  uint64 `json:"term"`
	Bound uint64 `json:"bound"`
	// Levels are what the leader knows of all nodes.
	Levels levels `json:"levels"`
}

// probe asks a voter whether it knows of a term above ours (rule P2).
type probe struct {
	Term  uint64 `json:"term"`
	Nonce uint64 `json:"nonce"`
	// Leader is the asking node. Its key was "leader" as long as leaders' own
	// leases were short: a successor of an older version takes those for short
	// whose name it finds there (P6).
	Leader string `json:"by"`
	// Voter is the server id that is asked: at its address there may be another
	// by now (rule P9). Empty from a node of an older version.
	Voter string `json:"voter,omitempty"`
	// Before: the answer is to say when it last answered an earlier term (P6).
	Before bool `json:"before,omitempty"`
}

// probeAnswer is a voter's yes, for this probe alone.
type probeAnswer struct {
	Term  uint64 `json:"term"`
	Nonce uint64 `json:"nonce"`
	// Before is how long ago the voter last answered a leader of an earlier
	// term, and no longer than its process is old. It is an age, so that clocks
	// need not agree. It is nil unless it was asked for, from a node of an older
	// version, and from one that was not of the term yet.
	Before *time.Duration `json:"before,omitempty"`
}

// heldNews tells a node how far another node's kernel is.
type heldNews struct {
	Node string `json:"node"`
	level
}

// whose asks a former owner of buckets which flows it has (rule P24).
type whose struct {
	Flows []nft.Flow `json:"flows"`
}

// whoseAnswer tells for each flow, in order, whether the node has it.
type whoseAnswer struct {
	Mine []bool `json:"mine"`
}

// flowsAnswer tells of a node's flows, by service.
type flowsAnswer struct {
	Services map[string]flowsOf `json:"services"`
}

// flowsOf are a node's flows of one service.
type flowsOf struct {
	// Active: TCP connections, and what else conntrack knows. Closing: TCP
	// connections of which one side has sent its FIN.
	Active  int `json:"active"`
	Closing int `json:"closing"`
	// Oldest is the age of the oldest; zero when it is not known.
	Oldest time.Duration `json:"oldest,omitempty"`
	// DrainLeft is the time until the last of its drains is over at the latest.
	DrainLeft time.Duration `json:"drain_left,omitempty"`
}
