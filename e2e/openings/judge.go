package openings

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"earshot/hashmode"
)

// Record is the timelines of all nodes, by name.
type Record map[string]*timeline

// Finding is something that the judge saw: an overlap, or a gap.
type Finding struct {
	Interval
	service string
	buckets hashmode.Set
	nodes   string // that were both open; empty for a gap
}

func (f Finding) String() string {
	what := "no node opens flows"
	if f.nodes != "" {
		what = f.nodes + " both open flows"
	}
	return fmt.Sprintf("%s in %s %s for %v, from %v on",
		what, f.service, f.buckets, f.Length().Round(10*time.Microsecond), f.From.Round(10*time.Microsecond))
}

// open are the times in which a node opens flows in a bucket.
func (t *timeline) open(p Place, sure func([]span) []Interval) []Interval {
	return intersect(sure(t.leases), sure(t.holds[p]))
}

// Overlaps are the times in which two nodes certainly opened flows in one
// bucket (I1).
func (r Record) Overlaps(places []Place) []Finding {
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

// Gaps are the times within a range, but for excused ones, in which certainly
// no node opened flows in a bucket (I2). A node that takes a bucket does, for a
// lease after the release, so that a take of up to the given length is no gap.
func (r Record) Gaps(places []Place, within Interval, excused []Interval, take time.Duration) []Finding {
	var all findings
	for _, p := range places {
		covered := slices.Clone(excused)
		for _, t := range r {
			covered = append(covered, t.open(p, possible)...)
			takes := slices.DeleteFunc(possible(t.takes[p]), func(i Interval) bool { return i.Length() > take })
			covered = append(covered, intersect(possible(t.leases), takes)...)
		}
		for _, gap := range missing(within, covered) {
			if gap.Length() > 0 {
				all.add(p, "", gap)
			}
		}
	}
	return all.sorted()
}

// Longer are the findings that last longer than a bound.
func Longer(list []Finding, bound time.Duration) []Finding {
	return slices.DeleteFunc(slices.Clone(list), func(f Finding) bool { return f.Length() <= bound })
}

// Longest is the length of the longest finding.
func Longest(list []Finding) time.Duration {
	var most time.Duration
	for _, f := range list {
		most = max(most, f.Length())
	}
	return most
}

// findings puts buckets with the same fate together.
type findings []Finding

func (all *findings) add(p Place, nodes string, i Interval) {
	for n := range *all {
		f := &(*all)[n]
		if f.Interval == i && f.service == p.service && f.nodes == nodes {
			f.buckets.Add(p.bucket)
			return
		}
	}
	f := Finding{Interval: i, service: p.service, nodes: nodes}
	f.buckets.Add(p.bucket)
	*all = append(*all, f)
}

func (all findings) sorted() []Finding {
	slices.SortFunc(all, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.service, b.service))
	})
	return all
}
