package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"earshot/e2e/openings"
)

// before and after are how much of the logs around a finding is told.
const (
	before = 700 * time.Millisecond
	after  = 300 * time.Millisecond
	// endLines is how much of each log is told when something else went wrong.
	endLines = 30
)

// chronicle is what all agents logged around a time, in order, by the record's
// own clock.
func (c *campaign) chronicle(around openings.Interval) string {
	stamped := regexp.MustCompile(`^time=(\S+) `)
	var lines []string
	for _, n := range c.Nodes {
		for line := range strings.Lines(n.Log()) {
			m := stamped.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			at, err := time.Parse(time.RFC3339, m[1])
			if err != nil {
				continue
			}
			if when := at.Sub(c.monitor.Began()); when > around.From-before && when < around.To+after {
				lines = append(lines, fmt.Sprintf("  %9.3fs %s %s", when.Seconds(), n.Name, strings.TrimSpace(line[len(m[0]):])))
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// lastWords are the ends of all agents' logs.
func (f *field) lastWords() string {
	var b strings.Builder
	for _, n := range f.Nodes {
		log := strings.Split(strings.TrimSpace(n.Log()), "\n")
		fmt.Fprintf(&b, "log of %s:\n  %s\n", n.Name, strings.Join(log[max(0, len(log)-endLines):], "\n  "))
	}
	return b.String()
}
