package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"earshot/coordinator"
)

// statusView is how the status is to be shown.
type statusView struct {
	terminal
	// All: list every node, however many there are.
	All bool
}

// crowd is the number of nodes from which on the quiet ones are summed up.
const crowd = 12

// renderStatus writes the status for people: what is wrong on top, then the
// nodes, then who answers what share of each service. It is a pure function.
func renderStatus(s coordinator.Status, view statusView) string {
	r := &statusText{Status: s, view: view}
	r.cluster()
	r.warnings()
	r.nodes()
	for _, service := range s.Services {
		r.service(service)
	}
	if len(s.Services) == 0 {
		r.line("\nno services")
	}
	return r.out.String()
}

// statusText is a status while it is written.
type statusText struct {
	coordinator.Status
	view statusView
	out  strings.Builder
}

// line writes a line without blanks at its end.
func (r *statusText) line(format string, args ...any) {
	r.out.WriteString(strings.TrimRight(fmt.Sprintf(format, args...), " "))
	r.out.WriteByte('\n')
}

func (r *statusText) cluster() {
	c := r.Cluster
	control := r.paint(green, "quorum")
	if !c.Quorum {
		control = r.paint(red, "NO QUORUM")
	}
	leader := "no leader"
	if c.Leader != "" {
		leader = c.Leader + " leads"
	}
	r.line("cluster  %s, %s, epoch %d, lease %v", control, leader, c.Epoch, time.Duration(c.LeaseMS)*time.Millisecond)
}

// warnings writes what somebody should act on: what the agent warns of, and
// what the nodes' states say.
func (r *statusText) warnings() {
	var failed []string
	odd := slices.Clone(r.Warnings)
	for _, n := range r.Nodes {
		if n.State == coordinator.StateFailed {
			failed = append(failed, n.Name)
		} else if n.LeaseMS == 0 && r.Cluster.Quorum && !n.Restarting && !witness(n) {
			odd = append(odd, n.Name+" has no lease: it answers nobody")
		}
		for _, p := range n.Problems {
			odd = append(odd, n.Name+": "+p)
		}
	}
	odd = append(odd, r.versions()...)
	if len(failed)+len(odd) > 0 {
		r.line("")
	}
	if len(failed) > 0 {
		r.warning(red, "failed: "+some(failed, 8))
	}
	for i, text := range odd {
		if slices.Index(odd, text) == i { // said once
			r.warning(yellow, text)
		}
	}
}

// warning writes a text of several lines, if need be, after a mark.
func (r *statusText) warning(c color, text string) {
	lines := wrap(text, 76)
	r.line("  %s %s", r.paint(c, "!"), lines[0])
	for _, l := range lines[1:] {
		r.line("    %s", l)
	}
}

// versions warns of nodes that run different versions.
func (r *statusText) versions() []string {
	byVersion := map[string][]string{}
	var versions []string
	for _, n := range r.Nodes {
		if n.Version == "" {
			continue
		}
		if byVersion[n.Version] == nil {
			versions = append(versions, n.Version)
		}
		byVersion[n.Version] = append(byVersion[n.Version], n.Name)
	}
	if len(versions) < 2 {
		return nil
	}
	slices.Sort(versions)
	var parts []string
	for _, v := range versions {
		parts = append(parts, v+" on "+some(byVersion[v], 4))
	}
	return []string{"nodes run different versions: " + strings.Join(parts, ", ")}
}

func (r *statusText) nodes() {
	if len(r.Nodes) == 0 {
		return
	}
	width := r.nameWidth()
	weighted := slices.ContainsFunc(r.Nodes, func(n coordinator.NodeStatus) bool { return n.Weight != 1 })
	weight := func(s string) string {
		if !weighted {
			return ""
		}
		return fmt.Sprintf("  %6s", s)
	}
	r.line("")
	r.line("%s", r.paint(dim, strings.TrimRight(fmt.Sprintf("%-*s  %-10s  %6s%s  %-6s  %s", width, "NODE", "STATE", "LEASE", weight("WEIGHT"), "VOTE", "LISTEN"), " ")))
	quiet := 0
	for _, n := range r.Nodes {
		if r.crowded() && r.quiet(n) {
			quiet++
			continue
		}
		state, c := r.state(n)
		r.line("%-*s  %s  %6s%s  %-6s  %s", width, n.Name, r.paint(c, fmt.Sprintf("%-10s", state)), r.lease(n), weight(fmt.Sprint(n.Weight)), r.vote(n), n.Listen)
	}
	if quiet > 0 {
		r.line("%s", r.paint(dim, fmt.Sprintf("and %s, in and with a lease (--all lists them)", plural(quiet, "more node"))))
	}
}

// crowded reports whether there are too many nodes to list each.
func (r *statusText) crowded() bool { return len(r.Nodes) > crowd && !r.view.All }

// quiet reports that there is nothing to say of a node.
func (r *statusText) quiet(n coordinator.NodeStatus) bool {
	return n.State == coordinator.StateIn && n.Alive && (n.LeaseMS > 0 || witness(n)) && !n.Restarting && n.HeldUntil == "" && len(n.Problems) == 0 && n.Name != r.Cluster.Leader
}

func (r *statusText) vote(n coordinator.NodeStatus) string {
	switch {
	case n.Name == r.Cluster.Leader:
		return "leader"
	case n.Voter:
		return "voter"
	}
	return "-"
}

// state is a node's state in a word.
func (r *statusText) state(n coordinator.NodeStatus) (string, color) {
	switch {
	case n.State == coordinator.StateFailed:
		return n.State, red
	case n.Restarting:
		return "restarting", yellow
	case n.State != coordinator.StateIn, !r.Cluster.Quorum:
		return n.State, yellow
	case witness(n) && n.Alive:
		return coordinator.RoleWitness, green
	case n.LeaseMS == 0:
		return "silent", red
	}
	return n.State, green
}

// lease is how long the node may go on answering. Without a leader, a node
// knows its own lease alone.
func (r *statusText) lease(n coordinator.NodeStatus) string {
	switch {
	case witness(n):
		return "-"
	case n.LeaseMS > 0:
		return (time.Duration(n.LeaseMS) * time.Millisecond).String()
	case !r.Cluster.Quorum && n.Name != r.Cluster.Node:
		return "?"
	}
	return "none"
}

// witness reports a node that votes and never answers.
func witness(n coordinator.NodeStatus) bool { return n.Role == coordinator.RoleWitness }

// nameWidth is the width of the column of nodes' names. A name that is longer
// than most pushes its own line.
func (r *statusText) nameWidth() int {
	width := 4
	for _, n := range r.Nodes {
		width = max(width, min(len(n.Name), 20))
	}
	return width
}

// wrap breaks a text into lines at blanks.
func wrap(text string, width int) []string {
	var lines []string
	var line string
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// some joins names, and counts those beyond the first few.
func some(names []string, most int) string {
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
