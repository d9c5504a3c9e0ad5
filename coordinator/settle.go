package coordinator

import (
	"time"

	"earshot/hashmode"
	"earshot/raftstore"
)

// settling remembers which buckets were released to this node just now. The
// same SYN reaches all nodes, not all at one time: what the former owner has
// answered may still be on its way into this node's kernel. For as long as
// that can be, each flow is asked about. A frame that a node handles later
// than its lease allows is dropped, so it can be no longer than a lease.
type settling struct {
	time  time.Duration
	since map[string]map[hashmode.Bucket]time.Time
}

// look returns the buckets that are not settled yet. What the kernel lets
// through already is.
func (s *settling) look(st *raftstore.State, node string, l levels, o opened, now time.Time) map[string]hashmode.Set {
	next := map[string]map[hashmode.Bucket]time.Time{}
	fresh := map[string]hashmode.Set{}
	if s.time == 0 || !st.Holds() {
		return nil // nothing can be asked
	}
	for name, v := range st.Services {
		next[name] = map[hashmode.Bucket]time.Time{}
		set := hashmode.Set{}
		for b := range rolesOf(v.Map, node, l)[inherit].All() {
			if o.of(v).Has(b) {
				continue
			}
			since, known := s.since[name][b]
			known = known && o.held >= v.Remapped
			if !known {
				since = now
			}
			if now.Sub(since) < s.time {
				next[name][b] = since
				set.Add(b)
			}
		}
		fresh[name] = set
	}
	s.since = next
	return fresh
}

// next is when the next bucket is settled; zero when all are.
func (s *settling) next() time.Time {
	var first time.Time
	for _, buckets := range s.since {
		for _, since := range buckets {
			if at := since.Add(s.time); first.IsZero() || at.Before(first) {
				first = at
			}
		}
	}
	return first
}
