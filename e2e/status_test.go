package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"earshot/e2e/lab"
	"earshot/hashmode"
)

// status is what `earshot status --json` promises. It is written out here on
// purpose: a renamed field must fail a test.
type status struct {
	Cluster struct {
		Leader string `json:"leader"`
		Epoch  uint64 `json:"epoch"`
		Quorum bool   `json:"quorum"`
	} `json:"cluster"`
	Nodes    []nodeStatus    `json:"nodes"`
	Services []serviceStatus `json:"services"`
}

type nodeStatus struct {
	Name      string   `json:"name"`
	Listen    string   `json:"listen"`
	State     string   `json:"state"`
	Alive     bool     `json:"alive"`
	Weight    int      `json:"weight"`
	LeaseMS   int64    `json:"lease_ms"`
	Voter     bool     `json:"voter"`
	Problems  []string `json:"problems"`
	Losses    int      `json:"losses"`
	HeldUntil string   `json:"held_until"`
	HeldMS    int64    `json:"held_ms"`
}

type serviceStatus struct {
	Name    string  `json:"name"`
	Address string  `json:"address"`
	MAC     string  `json:"mac"`
	Hash    string  `json:"hash"`
	Prefix  int     `json:"prefix"`
	Buckets int     `json:"buckets"`
	Seed    uint32  `json:"seed"`
	Refuses bool    `json:"refuses"`
	Nodes   []share `json:"nodes"`
}

type share struct {
	Name      string `json:"name"`
	Own       string `json:"own"`
	Inherit   string `json:"inherit"`
	Waiting   string `json:"waiting"`
	Drain     string `json:"drain"`
	Unfit     string `json:"unfit"`
	Flows     int    `json:"flows"`
	Why       string `json:"why"`
	HeldUntil string `json:"held_until"`
}

// statusOf asks a node's agent.
func statusOf(n *lab.Node) (status, error) {
	var s status
	r, err := n.Run("status", "--json")
	if err != nil {
		return s, err
	}
	if r.Code != 0 {
		return s, fmt.Errorf("status of %s: exit status %d: %s", n.Name, r.Code, r.Stderr)
	}
	if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil {
		return s, fmt.Errorf("status of %s: %w in %s", n.Name, err, r.Stdout)
	}
	return s, nil
}

// node returns the node of that name; the zero value if there is none.
func (s status) node(name string) nodeStatus {
	i := slices.IndexFunc(s.Nodes, func(n nodeStatus) bool { return n.Name == name })
	if i < 0 {
		return nodeStatus{}
	}
	return s.Nodes[i]
}

// service returns the service of that name; the zero value if there is none.
func (s status) service(name string) serviceStatus {
	i := slices.IndexFunc(s.Services, func(v serviceStatus) bool { return v.Name == name })
	if i < 0 {
		return serviceStatus{}
	}
	return s.Services[i]
}

// owners is the owner of each bucket. A bucket with no owner, with two, or
// with one that waits for its release is an error.
func (v serviceStatus) owners() ([]string, error) {
	owners := make([]string, v.Buckets)
	for _, n := range v.Nodes {
		own, err := hashmode.ParseSet(n.Own, v.Buckets)
		if err != nil {
			return nil, fmt.Errorf("service %s, node %s: %w", v.Name, n.Name, err)
		}
		for b := range own.All() {
			if owners[b] != "" {
				return nil, fmt.Errorf("service %s: bucket %d owned by %s and %s", v.Name, b, owners[b], n.Name)
			}
			owners[b] = n.Name
		}
		if n.Waiting != "" {
			return nil, fmt.Errorf("service %s: %s waits for buckets %s", v.Name, n.Name, n.Waiting)
		}
	}
	if b := slices.Index(owners, ""); b >= 0 {
		return nil, fmt.Errorf("service %s: bucket %d of %d has no owner", v.Name, b, v.Buckets)
	}
	return owners, nil
}

// owned is the number of buckets that a node owns.
func (v serviceStatus) owned(name string) int {
	for _, n := range v.Nodes {
		if n.Name == name {
			set, err := hashmode.ParseSet(n.Own, v.Buckets)
			if err == nil {
				return set.Len()
			}
		}
	}
	return 0
}

// spec is the service's hash, to be computed here, apart from the agents.
func (v serviceStatus) spec() hashmode.Spec {
	return hashmode.Spec{Mode: hashmode.Mode(v.Hash), Buckets: v.Buckets, Seed: v.Seed, Prefix: v.Prefix}
}

// expect names the node that must answer a client at one of the ports that the
// service names.
func (v serviceStatus) expect(owners []string, client netip.AddrPort, port uint16) string {
	return owners[v.spec().Bucket(client, port)]
}

// expectBySource names the node that must answer what no port decides.
func (v serviceStatus) expectBySource(owners []string, client netip.Addr) string {
	return owners[v.spec().SourceOnly().Bucket(netip.AddrPortFrom(client, 0), 0)]
}
