package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// part is one thing to measure.
type part struct {
	name string
	doc  string // one line
	// prepare gets what the part needs, with the user's own network. What it
	// cannot get the part does without, and says so. May be nil.
	prepare func(log io.Writer)
	run     func(context.Context, *rig) (table, error)
	// limit is the time for the part, beyond that for all; nil: none.
	limit func(options) time.Duration
}

// parts are all parts, in the order in which they run. A new one is a file with
// a function that returns it, and a line here.
func parts() []part {
	return []part{startPart(), idlePart(), framesPart(), throughputPart(), failoverPart(), movesPart(), scalePart()}
}

// choose returns the parts with the given names, all of them without a name.
func choose(all []part, names []string) ([]part, error) {
	if len(names) == 0 {
		return all, nil
	}
	var chosen []part
	for _, name := range names {
		i := slices.IndexFunc(all, func(p part) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("unknown part %q (use %s)", name, partNames(all))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func partNames(all []part) string {
	var names []string
	for _, p := range all {
		names = append(names, p.name)
	}
	return strings.Join(names, ", ")
}
