package openings

import (
	"slices"
	"time"

	"earshot/hashmode"
)

// Moment is a time since the record began, by CLOCK_MONOTONIC, which is one
// for all nodes of a lab.
type Moment = time.Duration

// Never is the end of what has not ended.
const Never = Moment(1<<63 - 1)

// stamp brackets the moment of an event: not before lo, not after hi.
type stamp struct{ lo, hi Moment }

// sooner is the stamp of whichever of two events came first.
func (s stamp) sooner(t stamp) stamp { return stamp{min(s.lo, t.lo), min(s.hi, t.hi)} }

// span is a time in which something was so.
type span struct{ From, To stamp }

// Place is a bucket of a service.
type Place struct {
	service string
	bucket  hashmode.Bucket
}

// timeline is when one node's kernel let it open flows: it needs a lease, and
// the bucket. The last span of each kind may be open: its end is never.
type timeline struct {
	leases []span
	holds  map[Place][]span
	// takes are when the node was taking a bucket: it holds what opens flows,
	// and answers what is nobody else's.
	takes map[Place][]span
}

func newTimeline() *timeline {
	return &timeline{holds: map[Place][]span{}, takes: map[Place][]span{}}
}

// hold enters that the bucket is open from now on, or is not.
func (t *timeline) hold(p Place, at stamp, open bool) {
	t.holds[p] = toggle(t.holds[p], at, open)
}

// take enters that the node takes the bucket from now on, or does not.
func (t *timeline) take(p Place, at stamp, taking bool) {
	t.takes[p] = toggle(t.takes[p], at, taking)
}

// toggle begins a span or ends the last one.
func toggle(spans []span, at stamp, open bool) []span {
	last := len(spans) - 1
	isOpen := last >= 0 && spans[last].To.hi == Never
	switch {
	case open && !isOpen:
		return append(spans, span{at, stamp{Never, Never}})
	case !open && isOpen:
		spans[last].To = at
	}
	return spans
}

// lease enters that from now on the node has a lease that ends by itself.
func (t *timeline) lease(at, end stamp) {
	last := len(t.leases) - 1
	if last >= 0 && at.hi < t.leases[last].To.lo {
		t.leases[last].To = end // without a break
		return
	}
	t.unlease(at)
	t.leases = append(t.leases, span{at, end})
}

// unlease enters that the node has no lease from now on.
func (t *timeline) unlease(at stamp) {
	if last := len(t.leases) - 1; last >= 0 {
		t.leases[last].To = t.leases[last].To.sooner(at)
	}
}

// clone returns a copy that does not change.
func (t *timeline) clone() *timeline {
	c := newTimeline()
	c.leases = slices.Clone(t.leases)
	for p, spans := range t.holds {
		c.holds[p] = slices.Clone(spans)
	}
	for p, spans := range t.takes {
		c.takes[p] = slices.Clone(spans)
	}
	return c
}

// forget drops what ended before a moment.
func (t *timeline) forget(before Moment) {
	old := func(s span) bool { return s.To.hi < before }
	t.leases = slices.DeleteFunc(t.leases, old)
	for _, spans := range []map[Place][]span{t.holds, t.takes} {
		for p := range spans {
			spans[p] = slices.DeleteFunc(spans[p], old)
		}
	}
}

// Interval is a time between two known moments.
type Interval struct{ From, To Moment }

// Length is how long it lasts.
func (i Interval) Length() time.Duration { return i.To - i.From }

// certain are the times in which it was so, whatever the moments in the
// brackets; possible are those in which it may have been.
func certain(spans []span) []Interval {
	var all []Interval
	for _, s := range spans {
		if s.From.hi < s.To.lo {
			all = append(all, Interval{s.From.hi, s.To.lo})
		}
	}
	return all
}

func possible(spans []span) []Interval {
	var all []Interval
	for _, s := range spans {
		all = append(all, Interval{s.From.lo, s.To.hi})
	}
	return all
}

// intersect returns the times that are in both. Neither list has overlaps of
// its own, but for the edges of brackets.
func intersect(a, b []Interval) []Interval {
	var all []Interval
	for _, x := range a {
		for _, y := range b {
			if both := (Interval{max(x.From, y.From), min(x.To, y.To)}); both.From < both.To {
				all = append(all, both)
			}
		}
	}
	return all
}

// missing returns the times within a range that are in none of a list.
func missing(within Interval, list []Interval) []Interval {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Interval) int { return int(a.From - b.From) })
	var all []Interval
	at := within.From
	for _, i := range list {
		if i.From > at {
			all = append(all, Interval{at, min(i.From, within.To)})
		}
		if at = max(at, i.To); at >= within.To {
			return all
		}
	}
	return append(all, Interval{at, within.To})
}
