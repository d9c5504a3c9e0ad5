package coordinator

import (
	"math"
	"slices"

	"earshot/hashmode"
	"earshot/nft"
	"earshot/raftstore"
)

// role is what a node is to one bucket.
type role int

const (
	foreign role = iota
	own
	inherit // own, and others may have flows
	waiting // own by the map, but not released by a former owner yet
	asking  // given away, but the new owner is not there yet: what opens flows is still held
	drain   // given away, flows may be left
)

// roleOf decides what a node is to a bucket by the map. The owner takes the
// bucket when every former owner is known to have released it (rule P13). That
// is a level, not an event, so that late, lost or doubled news does no harm.
func roleOf(slot raftstore.Slot, node string, l levels) role {
	switch {
	case slot.Owner != node && slices.Contains(slot.From, node):
		return drain
	case slot.Owner != node:
		return foreign
	case !l.released(slot):
		return waiting
	case len(slot.From) > 0:
		return inherit
	}
	return own
}

// roles are buckets by what a node is to them. A map would be asked for each of
// thousands of buckets.
type roles [drain + 1]hashmode.Set

// byRole has no entry for a role without buckets.
func (r *roles) byRole() map[role]hashmode.Set {
	all := map[role]hashmode.Set{}
	for i, set := range r {
		if !set.Empty() {
			all[role(i)] = set
		}
	}
	return all
}

// rolesOf sorts a service's buckets by what the node is to them.
func rolesOf(m raftstore.Map, node string, l levels) map[role]hashmode.Set {
	var sets roles
	for b, slot := range m {
		if r := roleOf(slot, node, l); r != foreign {
			sets[r].Add(hashmode.Bucket(b))
		}
	}
	return sets.byRole()
}

// rolesOfAll does so for all nodes that are anything to a bucket, in one pass.
func rolesOfAll(m raftstore.Map, l levels) map[string]map[role]hashmode.Set {
	cast := map[string]*roles{}
	add := func(node string, r role, b int) {
		if cast[node] == nil {
			cast[node] = &roles{}
		}
		cast[node][r].Add(hashmode.Bucket(b))
	}
	for b, slot := range m {
		add(slot.Owner, roleOf(slot, slot.Owner, l), b)
		for _, former := range slot.From {
			if former != slot.Owner {
				add(former, drain, b)
			}
		}
	}
	all := map[string]map[role]hashmode.Set{}
	for node, sets := range cast {
		all[node] = sets.byRole()
	}
	return all
}

// opened is what this node's kernel lets through: buckets in which it opens
// flows, under the map of index held. An earlier process may have left it.
type opened struct {
	held    uint64
	buckets map[string]hashmode.Set
	// taking are those of which it holds what opens flows, asking those of them
	// in which it lets that in after a question about each flow: they are released.
	taking, asking map[string]hashmode.Set
	// answered: this kernel has had a lease since it came up. Before, a node
	// replays its log into a kernel that knows nothing, and opens, silently,
	// what it has released long since.
	answered bool
}

// of is what the kernel lets through of a service, in the numbers that its
// buckets have now.
func (o opened) of(v raftstore.Service) hashmode.Set {
	if o.held < v.Remapped {
		return hashmode.Set{}
	}
	return o.buckets[v.Name]
}

// opens reports whether this node lets flows in a bucket be opened, be it after
// a question.
func (o opened) opens(service string, b hashmode.Bucket) bool {
	return o.buckets[service].Has(b) || o.asking[service].Has(b)
}

// hears reports whether what opens flows in a bucket is let in or held.
func (o opened) hears(service string, b hashmode.Bucket) bool {
	return o.buckets[service].Has(b) || o.taking[service].Has(b)
}

// heard are the buckets of a service in which what opens flows is let in or
// held, in the numbers that they have now.
func (o opened) heard(v raftstore.Service) hashmode.Set {
	if o.held < v.Remapped {
		return hashmode.Set{}
	}
	return o.buckets[v.Name].Union(o.taking[v.Name])
}

// takes reports whether the node is taking a bucket.
func (o opened) takes() bool {
	for _, buckets := range o.taking {
		if !buckets.Empty() {
			return true
		}
	}
	return false
}

// outdated reports whether a service has got other packets since the kernel's
// map, and the kernel lets anything through: what is the service's now may have
// been another's of its address, or in another bucket.
func (o opened) outdated(st *raftstore.State) bool {
	passes := false
	for _, buckets := range o.buckets {
		passes = passes || !buckets.Empty()
	}
	for _, v := range st.Services {
		if passes && o.held < v.Remapped {
			return true
		}
	}
	return false
}

// openedBy is what a kernel lets through that holds the ruleset.
func openedBy(rs nft.Ruleset) opened {
	o := opened{held: rs.Index, buckets: map[string]hashmode.Set{}, taking: map[string]hashmode.Set{}}
	for _, s := range rs.Services {
		o.buckets[s.Name], o.taking[s.Name] = s.Own.Union(s.Inherit), s.Take
	}
	return o
}

// askingIn are the buckets of a ruleset in which held packets may be let in: of
// all that is taken those that every other former owner has released. One that
// was so before, and is given away, stays so: who has it next waits for this node.
func askingIn(st *raftstore.State, node string, l levels, before opened, rs nft.Ruleset) map[string]hashmode.Set {
	all := map[string]hashmode.Set{}
	for _, s := range rs.Services {
		var set hashmode.Set
		for b := range s.Take.All() {
			v := st.Services[s.Name]
			asked := before.held >= v.Remapped && before.asking[s.Name].Has(b)
			if slot := v.Map[b]; slot.Owner == node && l.released(slot) || slot.Owner != node && (asked || l.releasedTo(node, slot)) {
				set.Add(b)
			}
		}
		all[s.Name] = set
	}
	return all
}

// closes reports whether the change from one ruleset to another closes a bucket
// in which packets may be under way: any that was let through or held.
func closes(before opened, last, now nft.Ruleset) bool {
	passes := openedBy(now).buckets
	held := map[string]hashmode.Set{}
	for _, s := range now.Services {
		held[s.Name] = s.Take
	}
	for _, s := range last.Services {
		if !s.Take.Minus(passes[s.Name]).Minus(held[s.Name]).Empty() {
			return true
		}
	}
	for service, buckets := range before.buckets {
		if !buckets.Minus(passes[service]).Empty() {
			return true
		}
	}
	return false
}

// knowledge is what a node goes by beside the replicated state.
type knowledge struct {
	levels levels
	// opened is what its kernel lets through now.
	opened opened
	// fresh are buckets that were released to this node just now: it answers
	// in them, and asks about each flow first (Timing.Settle).
	fresh map[string]hashmode.Set
	// busy are buckets given away of which packets wait here that came before
	// their new owner did: nobody else has heard them.
	busy map[string]hashmode.Set
	// interfaces names this node's own interface for a service, as far as its
	// config does.
	interfaces map[string]string
}

// given reports whether the node may go on with a bucket that it has given away:
// its kernel has answered, and it is the incarnation that opened the bucket. In an
// earlier one it was judged dead, and nobody waited for its release.
func (k knowledge) given(self raftstore.Node, sets map[role]hashmode.Set, b hashmode.Bucket) bool {
	return sets[drain].Has(b) && k.opened.answered && k.opened.held >= self.Changed
}

// awaits reports whether a bucket given away is not to be closed yet: its new
// owner is not there, or packets wait here that it has not heard.
func (k knowledge) awaits(service string, b hashmode.Bucket, slot raftstore.Slot) bool {
	return !k.levels.ready(slot) || k.busy[service].Has(b)
}

// untold is the first move of a bucket that the node has given away and goes on
// with. It can tell the release of none that moved then or later: a level is one
// number for all. cast has what the node is to the buckets of each service.
func (k knowledge) untold(st *raftstore.State, self raftstore.Node, cast map[string]map[role]hashmode.Set) uint64 {
	first := uint64(math.MaxUint64)
	for name, v := range st.Services {
		for b := range k.opened.heard(v).All() {
			if k.given(self, cast[name], b) && k.awaits(name, b, v.Map[b]) {
				first = min(first, v.Map[b].Since)
			}
		}
	}
	return first
}

// keep has the node go on with buckets that its kernel lets through:
//
//   - those that it had taken already and that have not moved since. It knew of
//     every release then, though this process may not have heard of them;
//   - those given away to a node that does not know it yet. Until that one
//     holds the map nobody would hear of their clients, and as the new owner
//     waits for our release it is no harm that it comes later. Others may have flows
//     there, the new owner not the least: it may have been the former one, too.
//     Where it holds packets it holds them until then, and until it has decided
//     about all that came before;
//   - those given away whose release could not be told yet, because of one of the
//     former that moved before, or together with them (untold). Their new owner is
//     there and would hold what comes, for as long as another takes to come: until
//     its death is committed, at the worst.
//
// Of a service whose buckets have got other packets since it keeps nothing:
// the numbers mean something else.
func (k knowledge) keep(v raftstore.Service, self raftstore.Node, sets map[role]hashmode.Set, untold uint64) {
	var taken, kept, asked hashmode.Set
	goesOn := func(b hashmode.Bucket, slot raftstore.Slot) bool {
		return k.given(self, sets, b) && (slot.Since >= untold || k.awaits(v.Name, b, slot))
	}
	for b := range k.opened.of(v).All() {
		if int(b) >= len(v.Map) {
			continue
		}
		slot := v.Map[b]
		switch {
		case sets[waiting].Has(b) && slot.Since <= k.opened.held:
			taken.Add(b)
		case goesOn(b, slot):
			kept.Add(b)
		}
	}
	for b := range k.opened.taking[v.Name].All() {
		if k.opened.held >= v.Remapped && int(b) < len(v.Map) && goesOn(b, v.Map[b]) {
			asked.Add(b)
		}
	}
	sets[waiting] = sets[waiting].Minus(taken)
	sets[drain] = sets[drain].Minus(kept).Minus(asked)
	sets[asking] = asked.Minus(kept)
	sets[inherit] = sets[inherit].Union(taken).Union(kept)
}

// desired is what the node's kernel must hold under the state: a pure
// function, so that a repair is the same as a change.
func desired(st *raftstore.State, node string, k knowledge) nft.Ruleset {
	rs := nft.Ruleset{Index: st.Index, Hold: st.Holds()}
	self, interfaces := st.Nodes[node], interfacesOf(st, k.interfaces)
	cast := map[string]map[role]hashmode.Set{}
	for name, v := range st.Services {
		cast[name] = rolesOf(v.Map, node, k.levels)
	}
	untold := k.untold(st, self, cast)
	for _, name := range st.ServiceNames() {
		v, sets := st.Services[name], cast[name]
		k.keep(v, self, sets, untold)
		if self.Failed {
			// From its death until its return a node opens nothing, lease or
			// not: nobody waits for its release (rule P14). A lease after the
			// death needs this map, or a newer one (rule P3).
			clear(sets)
		}
		fresh := sets[inherit].Intersect(k.fresh[name])
		rs.Services = append(rs.Services, nft.Service{
			Name:      name,
			Address:   v.Address.Addr(),
			Interface: interfaces[v.Address.Addr()],
			MAC:       v.HardwareAddr(),
			Hash:      v.Spec(),
			Ports:     portsOf(v.Definition),
			Own:       sets[own],
			Inherit:   sets[inherit].Minus(fresh),
			Drain:     sets[drain],
			Take:      sets[waiting].Union(fresh).Union(sets[asking]),
			MayRefuse: v.Fallback == raftstore.FallbackRefuse,
			Refuse:    st.Refuses(name),
			CountNew:  v.Balance == raftstore.BalanceLoad,
		})
	}
	return rs
}

// releasedUnder is the newest map of which the node has released all that it
// gives to others, with a kernel that lets through what o says (rule P13).
func releasedUnder(st *raftstore.State, node string, o opened) uint64 {
	released := st.Index
	for name, v := range st.Services {
		for b := range o.buckets[name].Union(o.taking[name]).All() {
			if int(b) < len(v.Map) && v.Map[b].Owner != node {
				released = min(released, v.Map[b].Since-1)
			}
		}
	}
	return released
}

// portsOf reads the definition's ports, which were checked before they were
// committed.
func portsOf(d raftstore.Definition) []nft.Port {
	var ports []nft.Port
	for _, text := range d.Ports {
		if p, err := nft.ParsePort(text); err == nil {
			ports = append(ports, p)
		}
	}
	return ports
}
