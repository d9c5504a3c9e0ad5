package coordinator

import (
	"slices"
	"time"

	"earshot/hashmode"
	"earshot/nft"
	"earshot/raftstore"
)

// mourning is what a node has to mind for some time after a death. What it held
// while the dead one lived, in buckets in which that one may have had flows, the
// dead one may have answered; it cannot be asked any more, and nobody is in its
// place. Its client, if not, sends it again. In all other buckets a death changes
// nothing.
type mourning struct {
	last    *raftstore.State // at the last look
	since   time.Time        // when a death was last seen
	index   uint64           // of the state that told of it
	buckets map[string]hashmode.Set
}

// look takes in a state, and reports whether a node has died since the last one.
func (m *mourning) look(st *raftstore.State, now time.Time) (died bool) {
	last := m.last
	m.last = st
	var dead []string
	for name, n := range st.Nodes {
		if n.Failed && (last == nil || !last.Nodes[name].Failed) {
			dead = append(dead, name)
		}
	}
	if len(dead) == 0 {
		return false
	}
	if now.Sub(m.since) >= nft.HoldLimit {
		m.buckets = map[string]hashmode.Set{}
	}
	m.since, m.index = now, st.Index
	for name, v := range st.Services {
		set := m.buckets[name].Clone()
		for b, slot := range v.Map {
			if last == nil || mayHaveHad(dead, last.Services[name], v, b, slot) {
				set.Add(hashmode.Bucket(b))
			}
		}
		m.buckets[name] = set
	}
	return true
}

// letGo reports whether a former owner of a bucket in which the node has a part,
// and which others inherit from still, has ended its drain since the last state.
// The node may remember flows as that one's though the bucket is not its own now:
// it may be again soon.
func letGo(last, now *raftstore.State, node string) bool {
	if last == nil || last == now {
		return false
	}
	for name, v := range now.Services {
		before := last.Services[name].Map
		for b, slot := range v.Map {
			if b >= len(before) || len(slot.From) == 0 || slot.Owner != node && !slices.Contains(slot.From, node) {
				continue
			}
			gone := func(name string) bool { return name != slot.Owner && !slices.Contains(slot.From, name) }
			if slices.ContainsFunc(before[b].From, gone) {
				return true
			}
		}
	}
	return false
}

// mayHaveHad reports whether one of the dead may have had flows in a bucket: it
// did by the last map, or the bucket has moved since in ways that were not seen.
func mayHaveHad(dead []string, last, now raftstore.Service, b int, slot raftstore.Slot) bool {
	if b >= len(last.Map) || last.Remapped != now.Remapped {
		return true
	}
	before := last.Map[b]
	return slot.Since != before.Since || slices.Contains(dead, before.Owner) ||
		slices.ContainsFunc(before.From, func(name string) bool { return slices.Contains(dead, name) })
}

// minds reports whether what is held in a bucket may have been answered by a dead
// node. What came of a move after the death was seen is nothing of its.
func (m *mourning) minds(service string, b hashmode.Bucket, slot raftstore.Slot, now time.Time) bool {
	return m.buckets[service].Has(b) && slot.Since <= m.index && now.Sub(m.since) < nft.HoldLimit
}
