package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"earshot/nft"
)

// querierPeriod is how often a querier asks, unless it is set to another pace.
const querierPeriod = 125 * time.Second

// Judge turns the nodes' reports into findings: of each service's segment,
// then of each node.
func Judge(reports []Report) []Finding {
	reports = slices.Clone(reports)
	slices.SortFunc(reports, func(a, b Report) int { return strings.Compare(a.Node, b.Node) })
	var findings []Finding
	for _, name := range services(reports) {
		findings = append(findings, segmentOf(name, reports).judge()...)
	}
	for _, r := range reports {
		if r.Error != "" {
			findings = append(findings, Finding{
				Severity: nft.Warn, Node: r.Node, What: "not examined: " + r.Error,
				Mend: "look at its agent: journalctl -u earshot, on " + r.Node,
			})
		}
		for _, p := range r.Problems {
			findings = append(findings, Finding{Severity: nft.Warn, Node: r.Node, What: p})
		}
		for _, f := range r.Findings {
			f.Node = r.Node
			findings = append(findings, f)
		}
	}
	return findings
}

// services are those that any node has heard of, in order.
func services(reports []Report) []string {
	var names []string
	for _, r := range reports {
		for _, h := range r.Heard {
			names = append(names, h.Service)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// segment is one service's network as its nodes see it.
type segment struct {
	service string
	nodes   []string // that could listen and send, in order
	heard   map[string]nft.Heard
	broken  []Finding // of nodes that could not
}

func segmentOf(service string, reports []Report) segment {
	s := segment{service: service, heard: map[string]nft.Heard{}}
	for _, r := range reports {
		for _, h := range r.Heard {
			switch {
			case h.Service != service:
			case h.Error != "":
				s.broken = append(s.broken, Finding{
					Severity: nft.Fail, Node: r.Node, Service: service, What: "cannot listen or send: " + h.Error,
					Mend: "ip link show dev " + h.Interface + ", on " + r.Node,
				})
			default:
				s.nodes = append(s.nodes, r.Node)
				s.heard[r.Node] = h
			}
		}
	}
	return s
}

func (s segment) judge() []Finding {
	findings := s.broken
	if len(s.nodes) > 0 {
		findings = append(findings, s.delivery()...)
		findings = append(findings, s.queriers()...)
		findings = append(findings, s.senders()...)
		findings = append(findings, s.gateways()...)
	}
	return findings
}

// mac is the cluster MAC.
func (s segment) mac() string { return s.heard[s.nodes[0]].MAC }

// stealth reports whether the cluster MAC is a unicast one: the second digit
// of its first byte is even.
func (s segment) stealth() bool { return strings.ContainsRune("02468ace", rune(s.mac()[1])) }

// delivery judges whether every node hears every other's test frames.
func (s segment) delivery() []Finding {
	if len(s.nodes) == 1 {
		return []Finding{s.finding(nft.OK, "", "no other node to exchange test frames with", "")}
	}
	mute := s.mute()
	var findings []Finding
	for _, node := range mute {
		findings = append(findings, s.finding(nft.Fail, node, "no other node hears what it sends on "+s.heard[node].Interface,
			"bring it into the others' segment: look at the switch's port, its VLAN and its port isolation"))
	}
	for _, node := range s.nodes {
		if f, bad := s.hears(node, mute); bad {
			findings = append(findings, f)
		}
	}
	if len(findings) == 0 {
		findings = append(findings, s.finding(nft.OK, "", fmt.Sprintf("frames to %s reach every node (%s)", s.mac(), strings.Join(s.nodes, ", ")), ""))
	}
	return findings
}

// mute are the nodes whose frames of no kind reach anybody, where others' do.
func (s segment) mute() []string {
	var mute []string
	for _, node := range s.nodes {
		if !slices.ContainsFunc(s.nodes, func(other string) bool { return s.heard[other].From[node] != nft.TestCounts{} }) {
			mute = append(mute, node)
		}
	}
	if len(mute) == len(s.nodes) {
		return nil // then it is no matter of one
	}
	return mute
}

// hears judges what a node hears of the others.
func (s segment) hears(node string, mute []string) (f Finding, bad bool) {
	h := s.heard[node]
	var deafTo, others []string
	broadcast := 0 // frames of those it does not hear as clients are heard
	for _, other := range s.nodes {
		if other == node || slices.Contains(mute, other) {
			continue
		}
		others = append(others, other)
		if from := h.From[other]; from.Cluster == 0 {
			deafTo = append(deafTo, other)
			broadcast += from.Broadcast
		}
	}
	whom := "any other node"
	if len(deafTo) < len(others) {
		whom = strings.Join(deafTo, ", ")
	}
	switch {
	case len(deafTo) == 0:
		return Finding{}, false
	case broadcast == 0:
		return s.finding(nft.Fail, node, fmt.Sprintf("hears nothing of %s on %s, not even what goes to everybody", whom, h.Interface),
			"bring them into one segment: look at cables, VLANs and port isolation"), true
	}
	why, mend, note := s.filtered(h)
	what := fmt.Sprintf("does not hear frames to %s of %s, and hears what goes to everybody: %s", h.MAC, whom, why)
	return s.finding(nft.Fail, node, what, mend).noting(note), true
}

// filtered tells why a switch, or the node's own card, keeps frames to the
// cluster MAC away, and what to do.
func (s segment) filtered(h nft.Heard) (why, mend, note string) {
	const bridge = "ip link set dev BRIDGE type bridge mcast_snooping 0"
	const others = "`earshot check --for VENDOR` has the entries for other switches"
	querier := s.anyQuerier()
	switch {
	case s.stealth():
		return "the switch does not flood unknown unicast MACs, or has learned this one",
			"bridge link set dev PORT flood on",
			"on a Linux bridge, for each node's port; " + others + ". If `bridge fdb show` names " + h.MAC + ", find the host that sends from it"
	case s.byAddress():
		return "a Linux bridge between the nodes snoops, and goes by the IP address" + heardFrom(querier), bridge,
			"on the machine that has the bridge; BRIDGE is its name. Or, for the port of each node: bridge link set dev PORT mcast_router 2. Or mac_mode: stealth"
	case querier != nil:
		return "a switch snoops" + heardFrom(querier), bridge, "on a Linux bridge, BRIDGE; " + others + ", or take mac_mode: stealth"
	}
	return "a switch filters multicast that nobody has registered for, or the network card does",
		"ip maddress show dev " + h.Interface,
		"it must list " + h.MAC + "; if it does, it is the switch: " + others + ", or take mac_mode: stealth"
}

// byAddress reports whether the switch goes by the IP address: it brings a
// node what goes to the group of the cluster MAC, and nothing else to that MAC.
func (s segment) byAddress() bool {
	for _, h := range s.heard {
		for _, from := range h.From {
			if from.Group > 0 && from.Cluster == 0 {
				return true
			}
		}
	}
	return false
}

func heardFrom(q *nft.Querier) string {
	if q == nil {
		return ""
	}
	return fmt.Sprintf(" (querier %s at %s, heard %s ago)", q.Address, q.MAC, q.Ago.Round(time.Second))
}

// anyQuerier is the querier that any node heard last.
func (s segment) anyQuerier() *nft.Querier {
	var last *nft.Querier
	for _, node := range s.nodes {
		for _, q := range s.heard[node].Queriers {
			if last == nil || q.Ago < last.Ago {
				last = &q
			}
		}
	}
	return last
}

// queriers tells whether somebody asks for group members.
func (s segment) queriers() []Finding {
	if s.stealth() {
		return nil // no group is concerned
	}
	if q := s.anyQuerier(); q != nil {
		return []Finding{s.finding(nft.OK, "", "a querier asks for group members"+heardFrom(q)+": switches that snoop act on it", "")}
	}
	var longest time.Duration
	for _, node := range s.nodes {
		longest = max(longest, s.heard[node].Listening)
	}
	what := "no querier asked for group members for " + longest.Round(time.Second).String()
	if longest < querierPeriod {
		what += "; one asks every 125 s, so there may be one yet"
	}
	return []Finding{s.finding(nft.OK, "", what, "")}
}

// senders finds who sends to the shared address by a wrong MAC: a host or
// router that has learned one node's.
func (s segment) senders() []Finding {
	type wrong struct{ mac, to string }
	seen := map[wrong][]string{}
	right := map[string]bool{}
	for _, node := range s.nodes {
		for _, sender := range s.heard[node].Senders {
			right[sender.MAC] = right[sender.MAC] || sender.Cluster > 0
			if sender.Other > 0 {
				w := wrong{sender.MAC, sender.To}
				seen[w] = append(seen[w], node)
			}
		}
	}
	var findings []Finding
	for _, w := range sorted(seen, func(a, b wrong) int { return strings.Compare(a.mac+a.to, b.mac+b.to) }) {
		address := s.heard[s.nodes[0]].Address
		findings = append(findings, s.finding(nft.Fail, "", fmt.Sprintf("%s sends frames for %s to %s instead of the cluster MAC: only %s hears them",
			s.host(w.mac), address, w.to, strings.Join(seen[w], ", ")), s.mendNeighbour()).noting("on that host, if it runs Linux; DEVICE is its interface to this segment. `earshot check --for VENDOR` for others"))
	}
	for _, g := range s.routers() {
		if right[g.MAC] {
			findings = append(findings, s.finding(nft.OK, "", fmt.Sprintf("the gateway %s (%s) sends to the cluster MAC", g.Address, g.MAC), ""))
		}
	}
	return findings
}

// mendNeighbour is how a host forgets the wrong MAC, or is told the right one.
func (s segment) mendNeighbour() string {
	h := s.heard[s.nodes[0]]
	return fmt.Sprintf("ip neigh replace %s lladdr %s nud permanent dev DEVICE", h.Address, h.MAC)
}

// host names a MAC: a gateway if it is one.
func (s segment) host(mac string) string {
	for _, g := range s.routers() {
		if g.MAC == mac {
			return fmt.Sprintf("the gateway %s (%s)", g.Address, mac)
		}
	}
	return "the host " + mac
}

// routers are the gateways that answered, each once.
func (s segment) routers() []nft.Gateway {
	var all []nft.Gateway
	for _, node := range s.nodes {
		if g := s.heard[node].Gateway; g != nil && g.MAC != "" && !slices.Contains(all, *g) {
			all = append(all, *g)
		}
	}
	return all
}

// gateways finds default gateways that do not answer.
func (s segment) gateways() []Finding {
	silent := map[nft.Gateway][]string{}
	for _, node := range s.nodes {
		if g := s.heard[node].Gateway; g != nil && g.MAC == "" {
			silent[*g] = append(silent[*g], node)
		}
	}
	var findings []Finding
	for _, g := range sorted(silent, func(a, b nft.Gateway) int { return a.Address.Compare(b.Address) }) {
		findings = append(findings, s.finding(nft.Warn, "", fmt.Sprintf("the default gateway %s does not answer %s: clients behind it get no answers",
			g.Address, strings.Join(silent[g], ", ")), "ip route show default; ping -c 3 "+g.Address.String()))
	}
	return findings
}

func (s segment) finding(severity nft.Severity, node, what, mend string) Finding {
	return Finding{Severity: severity, Node: node, Service: s.service, What: what, Mend: mend}
}

// noting adds what the command needs to be understood.
func (f Finding) noting(note string) Finding {
	f.Note = note
	return f
}

// sorted are a map's keys in order.
func sorted[K comparable, V any](m map[K]V, compare func(a, b K) int) []K {
	var keys []K
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compare)
	return keys
}
