package openings

import (
	"encoding/binary"
	"strings"
	"time"

	"earshot/hashmode"
)

// slack is what the kernel may take from setting a lease's timer to telling of it.
const slack = 2 * time.Millisecond

// shadow is what one node's kernel holds, as told by its notifications, and
// the timeline that follows from it. The names of the sets are those that the
// rules of package nft look at; written out here on purpose.
type shadow struct {
	*timeline
	jiffy   time.Duration
	buckets map[string]map[hashmode.Bucket]bool // elements of "web_own", "web_inherit", "web_take"
	slots   [2]slot
	touched map[Place]bool // since the last transaction
	leased  bool           // a slot was touched
}

// slot is one of the two leases. The rules let pass what is in both sets.
type slot struct {
	selected bool
	filled   bool
	end      stamp
}

func newShadow(jiffy time.Duration) *shadow {
	return &shadow{timeline: newTimeline(), jiffy: jiffy, buckets: map[string]map[hashmode.Bucket]bool{}, touched: map[Place]bool{}}
}

// The sets that let a bucket's flows be opened, and that of those that are taken.
const (
	suffixOwn     = "_own"
	suffixInherit = "_inherit"
	suffixTake    = "_take"
)

// serviceOf reads the service off a set of buckets.
func serviceOf(set string) (service string, ok bool) {
	for _, suffix := range []string{suffixOwn, suffixInherit, suffixTake} {
		if service, ok := strings.CutSuffix(set, suffix); ok {
			return service, true
		}
	}
	return "", false
}

// apply enters one transaction.
func (s *shadow) apply(changes []change, at stamp) {
	for _, c := range changes {
		s.change(c, at)
	}
	for p := range s.touched {
		s.hold(p, at, s.buckets[p.service+suffixOwn][p.bucket] || s.buckets[p.service+suffixInherit][p.bucket])
		s.take(p, at, s.buckets[p.service+suffixTake][p.bucket])
	}
	clear(s.touched)
	if s.leased {
		s.leased = false
		s.unleaseOr(at)
	}
}

// unleaseOr enters the lease that the selected slot gives, or that there is none.
func (s *shadow) unleaseOr(at stamp) {
	end := stamp{}
	for _, slot := range s.slots {
		if slot.selected && slot.filled {
			end = stamp{max(end.lo, slot.end.lo), max(end.hi, slot.end.hi)}
		}
	}
	if end.hi <= at.lo {
		s.unlease(at)
		return
	}
	s.lease(at, end)
}

// change enters one change.
func (s *shadow) change(c change, at stamp) {
	switch {
	case c.set == "": // the whole table
		s.clear(func(string) bool { return true })
	case c.all:
		s.clear(func(set string) bool { return set == c.set })
	default:
		s.element(c, at)
	}
}

// clear empties the sets that match.
func (s *shadow) clear(match func(set string) bool) {
	for set, elements := range s.buckets {
		for b := range elements {
			if match(set) {
				s.bucket(set, b, false)
			}
		}
	}
	for i := range s.slots {
		if match(leaseSet(i)) {
			s.slots[i].filled, s.leased = false, true
		}
		if match(selectedSet(i)) {
			s.slots[i].selected, s.leased = false, true
		}
	}
}

func leaseSet(slot int) string    { return [...]string{"lease_a", "lease_b"}[slot] }
func selectedSet(slot int) string { return [...]string{"slot_a", "slot_b"}[slot] }

// etherIP4 is the element of the lease sets that lets IPv4 pass.
const etherIP4 = 0x0800

// element enters one element that was added or removed.
func (s *shadow) element(c change, at stamp) {
	for i := range s.slots {
		if len(c.key) != 2 || binary.BigEndian.Uint16(c.key) != etherIP4 {
			continue
		}
		switch c.set {
		case leaseSet(i):
			s.slots[i].filled, s.leased = c.add, true
			s.slots[i].end = stamp{at.lo + c.timeout - s.jiffy - slack, at.hi + c.timeout + s.jiffy}
		case selectedSet(i):
			s.slots[i].selected, s.leased = c.add, true
		}
	}
	if _, ok := serviceOf(c.set); ok && len(c.key) == 4 {
		s.bucket(c.set, hashmode.Bucket(binary.NativeEndian.Uint32(c.key)), c.add)
	}
}

// bucket enters a bucket of a set.
func (s *shadow) bucket(set string, b hashmode.Bucket, in bool) {
	if s.buckets[set] == nil {
		s.buckets[set] = map[hashmode.Bucket]bool{}
	}
	if in {
		s.buckets[set][b] = true
	} else {
		delete(s.buckets[set], b)
	}
	service, _ := serviceOf(set)
	s.touched[Place{service, b}] = true
}
