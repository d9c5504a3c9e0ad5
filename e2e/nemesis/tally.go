package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// tallies are what became of each kind of fault.
type tallies map[string]*tally

type tally struct {
	gaps, mends []time.Duration
}

// add counts a fault: its longest gap, and how long the cluster took to be whole.
func (t tallies) add(name string, gap, mend time.Duration) {
	if t[name] == nil {
		t[name] = &tally{}
	}
	t[name].gaps, t[name].mends = append(t[name].gaps, gap), append(t[name].mends, mend)
}

// total is the number of faults.
func (t tallies) total() int {
	n := 0
	for _, one := range t {
		n += len(one.gaps)
	}
	return n
}

// String is a table.
func (t tallies) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-28s %6s  %22s  %22s\n", fmt.Sprintf("%d faults", t.total()), "count", "gap median/max", "whole median/max")
	for _, name := range slices.Sorted(maps.Keys(t)) {
		one := t[name]
		slices.Sort(one.gaps)
		slices.Sort(one.mends)
		half, last := len(one.gaps)/2, len(one.gaps)-1
		fmt.Fprintf(&b, "%-28s %6d  %22s  %22s\n", name, len(one.gaps), pair(one.gaps[half], one.gaps[last]), pair(one.mends[half], one.mends[last]))
	}
	return b.String()
}

func pair(a, b time.Duration) string {
	return fmt.Sprintf("%v / %v", a.Round(time.Millisecond), b.Round(time.Millisecond))
}
