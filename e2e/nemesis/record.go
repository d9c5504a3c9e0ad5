package main

import (
	"slices"
	"time"

	"earshot/hashmode"
)

// moment is a time since the record began, by CLOCK_MONOTONIC, which is one
// for all nodes of a lab.
type moment = time.Duration

// never is the end of what has not ended.
const never = moment(1<<63 - 1)

// stamp brackets the moment of an event: not before lo, not after hi.
type stamp struct{ lo, hi moment }

// sooner is the stamp of whichever of two events came first.
func (s stamp) sooner(t stamp) stamp { return stamp{min(s.lo, t.lo), min(s.hi, t.hi)} }

// span is a time in which something was so.
type span struct{ from, to stamp }

// place is a bucket of a service.
type place struct {
	service string
	bucket  hashmode.Bucket
}

// timeline is when one node's kernel let it open flows: it needs a lease, and
// the bucket. The last span of each kind may be open: its end is never.
type timeline struct {
	leases []span
	holds  map[place][]span
	// takes are when the node was taking a bucket: it holds what opens flows,
	// and answers what is nobody else's.
	takes map[place][]span
}

func newTimeline() *timeline {
	return &timeline{holds: map[place][]span{}, takes: map[place][]span{}}
}

// hold enters that the bucket is open from now on, or is not.
func (t *timeline) hold(p place, at stamp, open bool) {
	t.holds[p] = toggle(t.holds[p], at, open)
}

// take enters that the node takes the bucket from now on, or does not.
func (t *timeline) take(p place, at stamp, taking bool) {
	t.takes[p] = toggle(t.takes[p], at, taking)
}

// toggle begins a span or ends the last one.
func toggle(spans []span, at stamp, open bool) []span {
	last := len(spans) - 1
	isOpen := last >= 0 && spans[last].to.hi == never
	switch {
	case open && !isOpen:
		return append(spans, span{at, stamp{never, never}})
	case !open && isOpen:
		spans[last].to = at
	}
	return spans
}

// lease enters that from now on the node has a lease that ends by itself.
func (t *timeline) lease(at, end stamp) {
	last := len(t.leases) - 1
	if last >= 0 && at.hi < t.leases[last].to.lo {
		t.leases[last].to = end // without a break
		return
	}
	t.unlease(at)
	t.leases = append(t.leases, span{at, end})
}

// unlease enters that the node has no lease from now on.
func (t *timeline) unlease(at stamp) {
	if last := len(t.leases) - 1; last >= 0 {
		t.leases[last].to = t.leases[last].to.sooner(at)
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
func (t *timeline) forget(before moment) {
	old := func(s span) bool { return s.to.hi < before }
	t.leases = slices.DeleteFunc(t.leases, old)
	for _, spans := range []map[place][]span{t.holds, t.takes} {
		for p := range spans {
			spans[p] = slices.DeleteFunc(spans[p], old)
		}
	}
}

// interval is a time between two known moments.
type interval struct{ from, to moment }

func (i interval) length() time.Duration { return i.to - i.from }

// certain are the times in which it was so, whatever the moments in the
// brackets; possible are those in which it may have been.
func certain(spans []span) []interval {
	var all []interval
	for _, s := range spans {
		if s.from.hi < s.to.lo {
			all = append(all, interval{s.from.hi, s.to.lo})
		}
	}
	return all
}

func possible(spans []span) []interval {
	var all []interval
	for _, s := range spans {
		all = append(all, interval{s.from.lo, s.to.hi})
	}
	return all
}

// intersect returns the times that are in both. Neither list has overlaps of
// its own, but for the edges of brackets.
func intersect(a, b []interval) []interval {
	var all []interval
	for _, x := range a {
		for _, y := range b {
			if both := (interval{max(x.from, y.from), min(x.to, y.to)}); both.from < both.to {
				all = append(all, both)
			}
		}
	}
	return all
}

// missing returns the times within a range that are in none of a list.
func missing(within interval, list []interval) []interval {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b interval) int { return int(a.from - b.from) })
	var all []interval
	at := within.from
	for _, i := range list {
		if i.from > at {
			all = append(all, interval{at, min(i.from, within.to)})
		}
		if at = max(at, i.to); at >= within.to {
			return all
		}
	}
	return append(all, interval{at, within.to})
}
