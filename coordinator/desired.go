package coordinator

import (
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
	drain   // given away, flows may be left
)

// roleOf decides what a node is to a bucket. held tells which map each node's
// kernel is known to hold: the owner takes the bucket when every former owner
// holds the map that released it (rule P13). That is a level, not an event,
// so that late, lost or doubled news does no harm.
func roleOf(slot raftstore.Slot, node string, held map[string]uint64) role {
	if slot.Owner != node {
		if slices.Contains(slot.From, node) {
			return drain
		}
		return foreign
	}
	for _, former := range slot.From {
		if held[former] < slot.Since {
			return waiting
		}
	}
	if len(slot.From) > 0 {
		return inherit
	}
	return own
}

// rolesOf sorts a service's buckets by what the node is to them.
func rolesOf(m raftstore.Map, node string, held map[string]uint64) map[role]hashmode.Set {
	sets := map[role]hashmode.Set{}
	for b, slot := range m {
		r := roleOf(slot, node, held)
		if r == foreign {
			continue
		}
		set := sets[r]
		set.Add(hashmode.Bucket(b))
		sets[r] = set
	}
	return sets
}

// opened is what the kernel let through when the agent started: buckets that
// an earlier process of it took, under the map of index held. To take them it
// knew of every former owner's release, which this process has not heard of.
type opened struct {
	held    uint64
	buckets map[string]hashmode.Set
}

// keep moves waiting buckets that have been taken already, and not moved
// since, to those that are inherited.
func (o opened) keep(service string, m raftstore.Map, sets map[role]hashmode.Set) {
	taken := hashmode.Set{}
	for b := range sets[waiting].All() {
		if o.buckets[service].Has(b) && m[b].Since <= o.held {
			taken.Add(b)
		}
	}
	sets[inherit] = sets[inherit].Union(taken)
	sets[waiting] = sets[waiting].Minus(taken)
}

// desired is what the node's kernel must hold under the state: a pure
// function, so that a repair is the same as a change. interfaces names this
// node's own interface for a service where it differs from the definition.
func desired(st *raftstore.State, node string, held map[string]uint64, before opened, interfaces map[string]string) nft.Ruleset {
	rs := nft.Ruleset{Index: st.Index}
	for _, name := range st.ServiceNames() {
		v := st.Services[name]
		sets := rolesOf(v.Map, node, held)
		before.keep(name, v.Map, sets)
		if st.Nodes[node].Failed {
			// From its death until its return a node opens nothing, lease or
			// not: nobody waits for its release (rule P14). A lease after the
			// death needs this map, or a newer one (rule P3).
			clear(sets)
		}
		rs.Services = append(rs.Services, nft.Service{
			Name:      name,
			Address:   v.Address.Addr(),
			Interface: interfaceOf(v.Definition, interfaces),
			MAC:       v.HardwareAddr(),
			Hash:      v.Spec(),
			Ports:     portsOf(v.Definition),
			Own:       sets[own],
			Inherit:   sets[inherit],
			Drain:     sets[drain],
		})
	}
	return rs
}

func interfaceOf(d raftstore.Definition, interfaces map[string]string) string {
	if name := interfaces[d.Name]; name != "" {
		return name
	}
	return d.Interface
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
