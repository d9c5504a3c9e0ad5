package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"earshot/hashmode"
)

// record is the timelines of all nodes, by name.
type record map[string]*timeline

// finding is something that the judge saw: an overlap, or a gap.
type finding struct {
	interval
	service string
	buckets hashmode.Set
	nodes   string // that were both open; empty for a gap
}

func (f finding) String() string {
	what := "no node opens flows"
	if f.nodes != "" {
		what = f.nodes + " both open flows"
	}
	return fmt.Sprintf("%s in %s %s for %v, from %v on",
		what, f.service, f.buckets, f.length().Round(10*time.Microsecond), f.from.Round(10*time.Microsecond))
}

// open are the times in which a node opens flows in a bucket.
func (t *timeline) open(p place, sure func([]span) []interval) []interval {
	return intersect(sure(t.leases), sure(t.holds[p]))
}

// overlaps are the times in which two nodes certainly opened flows in one
// bucket (I1).
func (r record) overlaps(places []place) []finding {
	var all findings
	names := slices.Sorted(maps.Keys(r))
	for _, p := range places {
		for i, a := range names {
			for _, b := range names[i+1:] {
				for _, both := range intersect(r[a].open(p, certain), r[b].open(p, certain)) {
					all.add(p, a+" and "+b, both)
				}
			}
		}
	}
	return all.sorted()
}

// gaps are the times within a range, but for excused ones, in which certainly
// no node opened flows in a bucket (I2). A node that takes a bucket does, for a
// lease after the release, so that a take of up to the given length is no gap.
func (r record) gaps(places []place, within interval, excused []interval, take time.Duration) []finding {
	var all findings
	for _, p := range places {
		covered := slices.Clone(excused)
		for _, t := range r {
			covered = append(covered, t.open(p, possible)...)
			takes := slices.DeleteFunc(possible(t.takes[p]), func(i interval) bool { return i.length() > take })
			covered = append(covered, intersect(possible(t.leases), takes)...)
		}
		for _, gap := range missing(within, covered) {
			if gap.length() > 0 {
				all.add(p, "", gap)
			}
		}
	}
	return all.sorted()
}

// longer are the findings that last longer than a bound.
func longer(list []finding, bound time.Duration) []finding {
	return slices.DeleteFunc(slices.Clone(list), func(f finding) bool { return f.length() <= bound })
}

// longest is the length of the longest finding.
func longest(list []finding) time.Duration {
	var most time.Duration
	for _, f := range list {
		most = max(most, f.length())
	}
	return most
}

// findings puts buckets with the same fate together.
type findings []finding

func (all *findings) add(p place, nodes string, i interval) {
	for n := range *all {
		f := &(*all)[n]
		if f.interval == i && f.service == p.service && f.nodes == nodes {
			f.buckets.Add(p.bucket)
			return
		}
	}
	f := finding{interval: i, service: p.service, nodes: nodes}
	f.buckets.Add(p.bucket)
	*all = append(*all, f)
}

func (all findings) sorted() []finding {
	slices.SortFunc(all, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.service, b.service))
	})
	return all
}
