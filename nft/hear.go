package nft

import (
	"net/netip"
	"time"
)

// A Question is what Hear is to find out.
type Question struct {
	// Node is this node's name, which its test frames carry.
	Node string
	// Nonce tells the test frames of one examination from others.
	Nonce uint64
	// Window is how long to send and to listen.
	Window   time.Duration
	Services []Service
}

// Heard is what this node has seen of one shared address's segment.
type Heard struct {
	// Service names the services of the address: "echo, web".
	Service   string     `json:"service"`
	Interface string     `json:"interface"`
	Address   netip.Addr `json:"address"`
	MAC       string     `json:"mac"`
	// From counts the test frames of other nodes, by their names.
	From map[string]TestCounts `json:"from"`
	// Queriers have asked for group members since Listening ago.
	Queriers  []Querier     `json:"queriers,omitempty"`
	Listening time.Duration `json:"listening"`
	// Senders have sent to the shared address while we listened.
	Senders []Sender `json:"senders,omitempty"`
	// Gateway is the default gateway on the interface, if there is one.
	Gateway *Gateway `json:"gateway,omitempty"`
	// Error is why nothing could be sent or heard.
	Error string `json:"error,omitempty"`
}

// TestCounts counts test frames by what they were sent to.
type TestCounts struct {
	Cluster   int `json:"cluster"`
	Broadcast int `json:"broadcast"`
	Group     int `json:"group"`
}

// add counts one frame.
func (c TestCounts) add(kind TestKind) TestCounts {
	switch kind {
	case TestCluster:
		c.Cluster++
	case TestBroadcast:
		c.Broadcast++
	case TestGroup:
		c.Group++
	}
	return c
}

// A Querier asks for group members (IGMP or MLD).
type Querier struct {
	Address netip.Addr    `json:"address"`
	MAC     string        `json:"mac"`
	Ago     time.Duration `json:"ago"` // that it last asked
}

// A Sender is a host of the segment, or a router, by its MAC.
type Sender struct {
	MAC string `json:"mac"`
	// Cluster counts frames to the cluster MAC, Other those to another one.
	Cluster int `json:"cluster"`
	Other   int `json:"other"`
	// To is the last such other MAC.
	To string `json:"to,omitempty"`
}

// A Gateway is a router of this node.
type Gateway struct {
	Address netip.Addr `json:"address"`
	// MAC is empty when the gateway did not answer.
	MAC string `json:"mac,omitempty"`
}
