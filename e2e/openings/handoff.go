package openings

import (
	"cmp"
	"slices"
	"time"
)

// Handoff is one move of a bucket between nodes that live, by their kernels.
// Times are from the middles of brackets.
type Handoff struct {
	Place
	From, To string
	// At is when the former owner closed the bucket.
	At Moment
	// Gap is from then until the new owner opens flows in it without a question.
	// Below zero both did, for so long.
	Gap time.Duration
	// Unheard is for how much of the gap nobody even held what came.
	Unheard time.Duration
}

// Handoffs are all moves of the buckets, in the order in which they were closed.
// One that is not over is none yet.
func (r Record) Handoffs(places []Place) []Handoff {
	var all []Handoff
	for _, p := range places {
		for from, t := range r {
			for _, s := range t.holds[p] {
				if s.To.hi == Never {
					continue
				}
				if h, ok := r.heir(p, from, s.To); ok {
					all = append(all, h)
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b Handoff) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.service, b.service), cmp.Compare(a.bucket, b.bucket))
	})
	return all
}

// heir finds who had the bucket next when a node closed it; not ok if that is
// the node itself, or nobody yet.
func (r Record) heir(p Place, from string, closed stamp) (h Handoff, ok bool) {
	at := closed.middle()
	opened := Never
	for name, t := range r {
		for _, s := range t.holds[p] {
			if s.To.lo <= closed.hi || s.From.middle() >= opened {
				continue // over by then, or later than another's
			}
			opened = s.From.middle()
			h = Handoff{Place: p, From: from, To: name, At: at, Gap: opened - at, Unheard: max(opened-at, 0)}
			for _, take := range t.takes[p] {
				if take.To == s.From { // what was held since then was held until it opened
					h.Unheard = max(take.From.middle()-at, 0)
				}
			}
		}
	}
	return h, opened != Never && h.To != from
}

func (s stamp) middle() Moment { return s.lo + (s.hi-s.lo)/2 }
