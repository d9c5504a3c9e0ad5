package nft

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"earshot/hashmode"
)

// TableName is the name of Earshot's tables, one per family.
const TableName = "earshot"

// The families of our tables.
const (
	netdev    = nftables.TableFamilyNetdev
	inet      = nftables.TableFamilyINet
	arpFamily = nftables.TableFamilyARP
)

// A plan is a ruleset rendered: the structure (tables, sets and rules, which
// stay) apart from the contents (the sets' elements, which change).
type plan struct {
	tables    []table
	contents  contents
	addresses []address
}

// table is one of our tables.
type table struct {
	family nftables.TableFamily
	sets   []set
	chains []chain
}

// set is a set without its elements.
type set struct {
	name    string
	key     nftables.SetDatatype
	timeout bool // elements expire
	counter bool // each element counts what is looked up
	size    int  // most elements, 0 if not said
	fixed   [][]byte
	comment string // of the set's meaning, for the golden text
}

// chain is a chain with its rules; hook is nil where only other chains go to it.
type chain struct {
	name  string
	hook  *hook
	rules []rule
}

type hook struct {
	name     string
	num      nftables.ChainHook
	priority nftables.ChainPriority
	device   string
}

type rule struct {
	clauses []clause
	comment string
}

// text is the rule as nft writes it.
func (r rule) text() string {
	var words []string
	for _, c := range r.clauses {
		words = append(words, c.text)
	}
	if r.comment != "" {
		words = append(words, fmt.Sprintf("comment %q", r.comment))
	}
	return strings.Join(words, " ")
}

func (r rule) exprs() []expr.Any {
	var all []expr.Any
	for _, c := range r.clauses {
		all = append(all, c.exprs...)
	}
	return all
}

// when makes a rule of clauses.
func when(clauses ...clause) rule { return rule{clauses: clauses} }

// because adds the reason that nft shows.
func (r rule) because(comment string) rule {
	r.comment = comment
	return r
}

// dropped is a rule that counts and drops what the clauses match.
func dropped(comment string, clauses ...clause) rule {
	return when(append(clauses, counter(), drop())...).because(comment)
}

// contents is what the sets hold that change with the map.
type contents struct {
	held    uint64
	hasHeld bool
	// shared says where each shared address is, so that a process without
	// config can remove it.
	shared map[netip.Addr]place
	// buckets of each set of buckets.
	buckets map[setID]hashmode.Set
}

// equal reports whether the kernel could tell the two apart.
func (c contents) equal(d contents) bool {
	return c.held == d.held && c.hasHeld == d.hasHeld && c.samePlaces(d) &&
		maps.EqualFunc(c.filled(), d.filled(), hashmode.Set.Equal)
}

func (c contents) samePlaces(d contents) bool {
	return maps.EqualFunc(c.shared, d.shared, func(p, q place) bool { return p.String() == q.String() })
}

// filled are the sets that are not empty: an empty one may not be listed.
func (c contents) filled() map[setID]hashmode.Set {
	filled := maps.Clone(c.buckets)
	maps.DeleteFunc(filled, func(_ setID, s hashmode.Set) bool { return s.Empty() })
	return filled
}

type setID struct {
	family nftables.TableFamily
	name   string
}

// place is where a shared address lives.
type place struct {
	Interface string
	MAC       net.HardwareAddr
}

func (p place) String() string { return p.Interface + " " + p.MAC.String() }

// parsePlace reads what String writes.
func parsePlace(text string) (place, error) {
	ifname, mac, ok := strings.Cut(text, " ")
	hw, err := net.ParseMAC(mac)
	if !ok || err != nil {
		return place{}, fmt.Errorf("parse %q: want an interface and a MAC", text)
	}
	return place{ifname, hw}, nil
}

// Names of the sets and chains that every table or ruleset has.
const (
	setICMPError  = "icmp_error"
	setICMP6Error = "icmp6_error"
	setNeighbour  = "neighbour"
	setPorted     = "ported"
	setHeld       = "held"
	setShared     = "shared"
	setShared6    = "shared6"
	setFormer     = "former"
	chainLease    = "lease"
)

func setSharedOf(v6 bool) string {
	if v6 {
		return setShared6
	}
	return setShared
}

func setOwn(service string) string     { return service + "_own" }
func setInherit(service string) string { return service + "_inherit" }
func setDrain(service string) string   { return service + "_drain" }
func setHeard(service string) string   { return service + "_heard" }

func chainService(service string) string { return "service_" + service }
func chainReply(service string) string   { return "reply_" + service }
func chainSent(service string) string    { return "sent_" + service }

// chainAddress and the like replace what an nft identifier cannot have.
func chainAddress(a netip.Addr) string { return "to_" + addressName(a) }

func chainFrom(a netip.Addr) string { return "from_" + addressName(a) }

func chainHeard(a netip.Addr) string { return "heard_" + addressName(a) }

func chainHost(a netip.Addr) string { return "host_" + addressName(a) }

func addressName(a netip.Addr) string { return strings.ReplaceAll(a.String(), ":", "_") }

func chainInterface(ifname string) string { return "ingress_" + identifier(ifname) }

func identifier(s string) string {
	var out strings.Builder
	for _, b := range []byte(s) {
		switch {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '.', b == '-':
			out.WriteByte(b)
		default:
			fmt.Fprintf(&out, "_%02x", b)
		}
	}
	return out.String()
}

// render makes the plan of a ruleset for a kernel with such a queue, or says
// why it cannot be.
func render(rs Ruleset, q Queue) (plan, error) {
	rs, q = rs.with(q)
	if err := rs.check(); err != nil {
		return plan{}, err
	}
	all, err := addresses(rs.Services)
	if err != nil {
		return plan{}, err
	}
	return plan{
		addresses: all,
		tables:    []table{netdevTable(all), inetTable(all, q), arpTable(all)},
		contents:  contentsOf(rs),
	}, nil
}

// bucketSet is an empty set of buckets.
func bucketSet(name string, s Service, meaning string) set {
	return set{name: name, key: nftables.TypeMark, size: s.Hash.Buckets, comment: meaning}
}

func bucketKey(b hashmode.Bucket) []byte { return host32(uint32(b)) }

// heldKey is the index as two marks, the high half first.
func heldKey(index uint64) []byte {
	return append(host32(uint32(index>>32)), host32(uint32(index))...)
}

func heldIndex(key []byte) (uint64, bool) {
	if len(key) != 8 {
		return 0, false
	}
	n := binary.NativeEndian
	return uint64(n.Uint32(key))<<32 | uint64(n.Uint32(key[4:])), true
}

// fixedSets are the sets that say what kind a packet is.
func fixedSets() []set {
	return []set{
		// Destination unreachable, source quench, time exceeded, parameter problem.
		{name: setICMPError, key: nftables.TypeICMPType, fixed: [][]byte{{3}, {4}, {11}, {12}}, comment: "routers send these, so their source says nothing"},
		// Destination unreachable, packet too big, time exceeded, parameter problem.
		{name: setICMP6Error, key: nftables.TypeICMP6Type, fixed: [][]byte{{1}, {2}, {3}, {4}}, comment: "the same of IPv6"},
		{name: setNeighbour, key: nftables.TypeICMP6Type, fixed: [][]byte{{133}, {134}, {135}, {136}, {137}}, comment: "neighbour discovery, which every node needs"},
		{name: setPorted, key: nftables.TypeInetProto, fixed: [][]byte{{byte(DCCP)}, {byte(SCTP)}, {byte(UDPLite)}}, comment: "have ports, beside TCP and UDP"},
	}
}

// isFixed reports whether a set's elements never change.
func isFixed(name string) bool {
	return slices.ContainsFunc(fixedSets(), func(s set) bool { return s.name == name })
}

// contentsOf is render's contents alone: what changes while the structure
// stays. The ruleset must be one that was rendered before.
func contentsOf(rs Ruleset) contents {
	c := contents{
		held: rs.Index, hasHeld: true,
		shared:  map[netip.Addr]place{},
		buckets: map[setID]hashmode.Set{},
	}
	for _, s := range rs.Services {
		c.shared[s.Address] = place{s.Interface, s.MAC}
		drain := s.Drain
		if rs.Hold {
			c.buckets[setID{inet, setTake(s.Name)}] = s.Take
		} else { // it may have flows of its own there, from before
			drain = drain.Union(s.Take)
		}
		if s.MayRefuse {
			c.buckets[setID{inet, setRefuse(s.Name)}] = s.refused()
		}
		if s.CountNew {
			c.buckets[setID{inet, setNew(s.Name)}] = s.counted()
		}
		c.buckets[setID{netdev, setHeard(s.Name)}] = s.Own.Union(s.Inherit).Union(s.Drain).Union(s.Take)
		c.buckets[setID{inet, setOwn(s.Name)}] = s.Own
		c.buckets[setID{inet, setInherit(s.Name)}] = s.Inherit
		c.buckets[setID{inet, setDrain(s.Name)}] = drain
		c.buckets[setID{inet, setClosing(s.Name)}] = hashmode.Set{}
	}
	return c
}

// shapeOf is equal for rulesets of equal structure.
func shapeOf(rs Ruleset) string {
	var out strings.Builder
	fmt.Fprintf(&out, "hold %v\n", rs.Hold)
	for _, s := range rs.Services {
		fmt.Fprintf(&out, "%s %s %s %s %v %v %v %v\n", s.Name, s.Address, s.Interface, s.MAC, s.Hash, s.Ports, s.MayRefuse, s.CountNew)
	}
	return out.String()
}
