package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"earshot/e2e/load"
)

// frame is one picture of the story.
type frame struct {
	step
	elapsed time.Duration
	nodes   []nodeRow
	acts    []act
	counts  []count
}

// nodeRow is a node in a frame.
type nodeRow struct {
	name  string
	mark  string
	share float64
	rate  int // new connections answered in the last second
	open  int
}

// frame makes the picture of a moment.
func (s *story) frame(p step, now sample) frame {
	f := frame{step: p, elapsed: now.at.Sub(s.begun), acts: s.acts, counts: now.counts(s.acts)}
	rates, open := now.shares(), now.open()
	for _, n := range s.Nodes {
		f.nodes = append(f.nodes, nodeRow{
			name: n.Name, mark: p.marks[n.Name], share: now.share(n.Name), rate: rates[n.Name], open: open[n.Name],
		})
	}
	return f
}

const barWidth = 30

// title is what is done: a command as typed, else the act's name.
func (s step) title() string {
	if s.typed != "" {
		return "$ " + s.typed
	}
	return s.name
}

// lines renders the frame for a terminal.
func (f frame) lines(p palette) []string {
	lines := []string{
		p.paint(bold, "Earshot") + fmt.Sprintf(": three nodes answer for http://%s/, nothing in front of them", shared.Addr()),
		p.paint(dim, fmt.Sprintf("client: %d new connections/s from %d addresses, %d kept open; %2.0f s",
			rate, sources, held, f.elapsed.Seconds())),
		"",
		p.paint(bold, f.title()),
		"  " + f.words,
		"",
		p.paint(dim, fmt.Sprintf("%-4s %-8s  %-*s  %5s  %6s  %10s", "NODE", "", barWidth, "ANSWERS OF THE LAST SECOND", "", "new/s", "kept open")),
	}
	for _, n := range f.nodes {
		lines = append(lines, n.line(p))
	}
	lines = append(lines, "", p.paint(dim, tableHead))
	for i := range f.acts {
		lines = append(lines, tableRow(p, f.acts[i], f.counts[i]))
	}
	return lines
}

// line is a node's bar and figures.
func (n nodeRow) line(p palette) string {
	c := green
	if n.mark != "" {
		c = yellow
	}
	full := min(int(n.share*barWidth+0.5), barWidth)
	bar := p.paint(c, strings.Repeat(p.full, full)) + p.paint(dim, strings.Repeat(p.empty, barWidth-full))
	return fmt.Sprintf("%-4s %s  %s  %3.0f %%  %6d  %10d", n.name, p.paint(c, fmt.Sprintf("%-8s", n.mark)), bar, 100*n.share, n.rate, n.open)
}

// plain renders the frame as one line.
func (f frame) plain() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%5.1f s ", f.elapsed.Seconds())
	for _, n := range f.nodes {
		fmt.Fprintf(&b, "  %s %3.0f %%", n.name, 100*n.share)
	}
	open := 0
	for _, n := range f.nodes {
		open += n.open
	}
	c := f.counts[len(f.counts)-1]
	fmt.Fprintf(&b, "   %d open; %d asked, %d failed", open, c.requests, c.failed())
	return b.String()
}

var tableHead = fmt.Sprintf("%-20s %9s %7s %7s %9s", "WHAT HAPPENED", "requests", "failed", "waited", "slowest")

// tableRow is an act in the table of acts.
func tableRow(p palette, a act, c count) string {
	failed := p.paint(green, fmt.Sprintf("%7d", c.failed()))
	if c.failed() > 0 {
		failed = p.paint(red, fmt.Sprintf("%7d", c.failed()))
	}
	return strings.TrimRight(fmt.Sprintf("%-20s %9d %s %7d %9s  %s",
		a.name, c.requests, failed, c.waited, duration(c.slowest), kinds(c.failures)), " ")
}

// kinds says how requests failed, "20 reset, 1 timeout".
func kinds(failures map[load.Failure]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(failures)) {
		parts = append(parts, fmt.Sprintf("%d %s", failures[k], k))
	}
	return strings.Join(parts, ", ")
}

// duration writes a time with as many digits as matter.
func duration(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
}
