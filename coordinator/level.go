package coordinator

import (
	"maps"
	"sync"

	"earshot/raftstore"
)

// level is how far a node's kernel is, in indices of maps. Both only rise, so
// that late, lost or doubled news of them does no harm (rule P13).
type level struct {
	// Held is the newest map that the kernel holds.
	Held uint64 `json:"held"`
	// Released: of all that this map, or an older one, gave away, the kernel
	// opens nothing any more. It is behind Held while the node answers for
	// buckets whose new owner is not there yet.
	Released uint64 `json:"released"`
}

// max is the higher of two levels, each part by itself.
func (l level) max(m level) level {
	return level{Held: max(l.Held, m.Held), Released: max(l.Released, m.Released)}
}

// levels are those of all nodes, by name.
type levels map[string]level

// ready reports whether the new owner of the slot knows of it: what the former
// one drops from then on, it holds.
func (l levels) ready(slot raftstore.Slot) bool { return l[slot.Owner].Held >= slot.Since }

// released reports whether no former owner opens flows any more.
func (l levels) released(slot raftstore.Slot) bool { return l.releasedTo("", slot) }

// releasedTo is released as a node sees it that may be a former owner itself.
func (l levels) releasedTo(node string, slot raftstore.Slot) bool {
	for _, former := range slot.From {
		if former != node && l[former].Released < slot.Since {
			return false
		}
	}
	return true
}

// news is what this node knows of the levels of all.
type news struct {
	mu      sync.Mutex
	levels  levels
	changed chan struct{}
}

func newNews() *news {
	return &news{levels: levels{}, changed: make(chan struct{}, 1)}
}

// learn takes in what somebody said.
func (n *news) learn(said levels) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for node, l := range said {
		if higher := n.levels[node].max(l); higher != n.levels[node] {
			n.levels[node] = higher
			signal(n.changed)
		}
	}
}

// all returns a copy.
func (n *news) all() levels {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.levels)
}
