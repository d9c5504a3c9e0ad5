package coordinator

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"earshot/hashmode"
	"earshot/nft"
	"earshot/raftstore"
)

// packet is what rules decide about: a client's address and port, and the port
// that it asks.
type packet struct {
	client netip.AddrPort
	port   nft.Port
}

// roleFor is what the rules of a node make of a packet: the first service that
// names the port decides, or the first of all by the source address.
func roleFor(rs rules, p packet) role {
	services := slices.Clone(rs.Services)
	slices.SortFunc(services, func(a, b nft.Service) int { return strings.Compare(a.Name, b.Name) })
	for _, s := range services {
		if len(s.Ports) == 0 || slices.Contains(s.Ports, p.port) {
			return rs.role(s, s.Hash.Bucket(p.client, p.port.Number))
		}
	}
	if len(services) == 0 {
		return foreign
	}
	return rs.role(services[0], services[0].Hash.SourceOnly().Bucket(p.client, p.port.Number))
}

// rules are what a kernel holds, and the buckets for which its node waits. It
// opens nothing there; the packets of its own flows come through again once it
// has been told of the release.
type rules struct {
	nft.Ruleset
	waiting map[string]hashmode.Set
}

func rulesOf(st *raftstore.State, node string, l levels, before rules) rules {
	o := openedBy(before.Ruleset)
	o.answered = true
	rs := rules{desired(st, node, knowledge{levels: l, opened: o}), map[string]hashmode.Set{}}
	for _, s := range rs.Services {
		rs.waiting[s.Name] = s.Take
	}
	return rs
}

func (rs rules) role(s nft.Service, b hashmode.Bucket) role {
	switch {
	case rs.waiting[s.Name].Has(b):
		return waiting
	case s.Own.Has(b):
		return own
	case s.Inherit.Has(b):
		return inherit
	case s.Drain.Has(b):
		return drain
	}
	return foreign
}

// redefined is a cluster of living nodes whose services change all the time:
// maps reach kernels late, and news of that later.
type redefined struct {
	*rapid.T
	states  []*raftstore.State
	kernels map[string]rules
	knows   map[string]levels // who knows how far whose kernel is
	flows   map[packet]string // open, and at which node
}

func (r *redefined) state() *raftstore.State { return r.states[len(r.states)-1] }

func (r *redefined) apply(c raftstore.Command) {
	next, err := r.state().Apply(r.state().Index+1, 1, c)
	if err != nil && c.Redefine == nil && c.Define == nil {
		r.Fatalf("%+v: %v", c, err)
	}
	r.states = append(r.states, next)
}

func (r *redefined) node() string {
	return rapid.SampledFrom([]string{"a", "b", "c"}).Draw(r.T, "node")
}

func (r *redefined) packet() packet {
	addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(1, 6).Draw(r.T, "client"))})
	return packet{
		netip.AddrPortFrom(addr, uint16(rapid.IntRange(1, 4).Draw(r.T, "sport"))),
		nft.Port{Protocol: nft.TCP, Number: rapid.SampledFrom([]uint16{80, 443, 5222}).Draw(r.T, "port")},
	}
}

// redefine changes, adds or removes a service at the one address.
func (r *redefined) redefine() {
	name := rapid.SampledFrom([]string{"web", "web", "web", "app"}).Draw(r.T, "service")
	d := testDefinition(name, rapid.SampledFrom([]int{4, 4, 7, 1, 16}).Draw(r.T, "buckets"))
	d.Hash = rapid.SampledFrom(hashmode.Modes()).Draw(r.T, "hash")
	d.Ports = rapid.SampledFrom([][]string{{"tcp/80"}, {"tcp/443"}, {"tcp/443", "tcp/80"}}).Draw(r.T, "ports")
	if name == "app" {
		d.Ports = []string{"tcp/5222"}
	}
	change := raftstore.Redefinition{Service: name, Definition: &d, Seed: 3}
	if have, ok := r.state().Services[name]; ok {
		change.Was = &have.Definition
		if rapid.IntRange(0, 2).Draw(r.T, "remove") == 0 {
			change.Definition = nil
		}
	}
	r.propose(raftstore.Command{Redefine: &raftstore.Redefine{Changes: []raftstore.Redefinition{change}}})
}

// define has an agent start whose config has a service more.
func (r *redefined) define() {
	name := rapid.SampledFrom([]string{"web", "app"}).Draw(r.T, "service")
	d := testDefinition(name, 4)
	d.Ports = map[string][]string{"web": {"tcp/80"}, "app": {"tcp/5222"}}[name]
	r.propose(raftstore.Command{Define: &raftstore.Define{Definition: d, Seed: 7}})
}

// propose commits a command as a leader does.
func (r *redefined) propose(c raftstore.Command) {
	c = besideOthers(r.state(), c)
	if comesBack(r.state(), c) && behind(r.state(), r.knows["a"], r.state().Index) != "" {
		return
	}
	r.apply(c)
}

// plan moves some buckets, those without an owner at the least.
func (r *redefined) plan() {
	st := r.state()
	var moves []raftstore.Move
	for _, service := range st.ServiceNames() {
		for b, slot := range st.Services[service].Map {
			if slot.Owner == "" || rapid.IntRange(0, 7).Draw(r.T, "move") == 0 {
				moves = append(moves, raftstore.Move{Service: service, Buckets: fmt.Sprint(b), To: r.node()})
			}
		}
	}
	r.apply(raftstore.Command{Assign: &raftstore.Assign{Epoch: st.Epoch, Moves: moves}})
}

// catchUp has a node's kernel take in a newer map.
func (r *redefined) catchUp(node string) {
	held := r.kernels[node].Index
	var newer []*raftstore.State
	for _, s := range r.states {
		if s.Index >= held {
			newer = append(newer, s)
		}
	}
	st := newer[len(newer)-1-rapid.IntRange(0, len(newer)-1).Draw(r.T, "behind")]
	r.take(node, st)
	r.knows[node][node] = r.knows[node][node].max(r.level(node))
}

// take has a node's kernel take in a map.
func (r *redefined) take(node string, st *raftstore.State) {
	r.kernels[node] = rulesOf(st, node, r.knows[node], r.kernels[node])
	if len(st.Services) == 0 { // the address is gone, and its flows with it
		maps.DeleteFunc(r.flows, func(_ packet, at string) bool { return at == node })
	}
}

// level is how far a node's kernel is.
func (r *redefined) level(node string) level {
	rs := r.kernels[node].Ruleset
	for _, s := range r.states {
		if s.Index == rs.Index {
			return level{Held: rs.Index, Released: releasedUnder(s, node, openedBy(rs))}
		}
	}
	return level{}
}

// endDrains reports those drains of a node that have no flow, by the rules
// that its kernel holds.
func (r *redefined) endDrains(node string) {
	rs := r.kernels[node]
	for _, s := range rs.Services {
		idle := s.Drain
		for p, at := range r.flows {
			if at == node && (len(s.Ports) == 0 || slices.Contains(s.Ports, p.port)) {
				idle = idle.Minus(hashmode.NewSet(s.Hash.Bucket(p.client, p.port.Number)))
			}
			if at == node && s.Name == rs.Services[0].Name { // it decides about strays
				idle = idle.Minus(hashmode.NewSet(s.Hash.SourceOnly().Bucket(p.client, p.port.Number)))
			}
		}
		if _, there := r.state().Services[s.Name]; there && !idle.Empty() {
			// It may come late, and name buckets that there are no more.
			next, _ := r.state().Apply(r.state().Index+1, 1, raftstore.Command{EndDrain: &raftstore.EndDrain{
				Node: node, Service: s.Name, Buckets: idle.String(), Seen: r.level(node).Released,
			}})
			r.states = append(r.states, next)
		}
	}
}

// sendAll sends all packets that there are, but opens no flow.
func (r *redefined) sendAll() {
	for client := range byte(6) {
		for sport := range uint16(4) {
			for _, port := range []uint16{80, 443, 5222} {
				r.judge(packet{
					netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1 + client}), 1+sport),
					nft.Port{Protocol: nft.TCP, Number: port},
				})
			}
		}
	}
}

// send has a client send a packet that opens a flow, or belongs to one.
func (r *redefined) send(p packet) {
	opens := r.judge(p)
	if _, open := r.flows[p]; !open && len(opens) == 1 {
		r.flows[p] = opens[0]
	}
}

// judge says who would open a flow, and demands I1 and I3.
func (r *redefined) judge(p packet) []string {
	var opens []string
	for _, node := range slices.Sorted(maps.Keys(r.kernels)) {
		role := roleFor(r.kernels[node], p)
		if role == own || role == inherit {
			opens = append(opens, node)
		}
		at, open := r.flows[p]
		switch {
		case open && at == node && role == foreign:
			r.Fatalf("I3: %s drops its own flow %v: %+v", node, p, r.kernels[node])
		case open && at != node && role == own:
			r.Fatalf("I3: %s resets the flow %v of %s", node, p, at)
		}
	}
	if len(opens) > 1 {
		r.Fatalf("I1: %v open flows for %v", opens, p)
	}
	return opens
}

// TestRedefinitionsBreakNoFlowAndDoubleNone: whatever changes in the services
// of an address, and however late nodes learn of it, a packet never has two
// nodes that open flows (I1), and a flow keeps its node (I3).
func TestRedefinitionsBreakNoFlowAndDoubleNone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &redefined{T: t, kernels: map[string]rules{}, knows: map[string]levels{}, flows: map[packet]string{}}
		r.states = []*raftstore.State{raftstore.NewState()}
		for _, n := range []string{"a", "b", "c"} {
			r.kernels[n], r.knows[n] = rules{}, levels{}
			r.apply(raftstore.Command{Join: &raftstore.Join{Name: n, ServerID: "id-" + n, Listen: n, Weight: 1}})
		}
		r.apply(raftstore.Command{Define: &raftstore.Define{Definition: testDefinition("web", 4), Seed: 7}})
		r.plan()
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			switch rapid.IntRange(-1, 9).Draw(t, "what") {
			case -1:
				r.define()
			case 0:
				r.redefine()
			case 1:
				r.plan()
			case 2:
				r.endDrains(r.node())
			case 3, 4:
				r.catchUp(r.node())
				r.sendAll()
			case 5, 6:
				to, of := r.node(), r.node()
				r.knows[to][of] = r.knows[to][of].max(r.level(of))
			case 7:
				delete(r.flows, r.packet())
			default:
				r.send(r.packet())
			}
		}
		// In the end everybody knows everything, and nobody waits.
		for range 3 {
			for _, n := range []string{"a", "b", "c"} {
				r.take(n, r.state())
				for _, m := range []string{"a", "b", "c"} {
					r.knows[m][n] = r.knows[m][n].max(r.level(n))
				}
			}
		}
		for p, at := range r.flows {
			r.send(p)
			if got := roleFor(r.kernels[at], p); got == waiting {
				t.Fatalf("%s waits for ever for the bucket of %v", at, p)
			}
		}
	})
}
