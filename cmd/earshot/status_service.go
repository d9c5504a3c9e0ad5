package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"earshot/coordinator"
	"earshot/hashmode"
)

// share is a node's part of a service, as sets.
type share struct {
	coordinator.ShareStatus
	// own has what the node answers for, given also what it waits for.
	own, given, drain hashmode.Set
}

func shareOf(s coordinator.ShareStatus) share {
	own, waiting := parseBuckets(s.Own), parseBuckets(s.Waiting)
	return share{ShareStatus: s, own: own.Minus(waiting), given: own.Union(waiting), drain: parseBuckets(s.Drain)}
}

// parseBuckets reads what an agent wrote. Text that is no set counts as
// empty: a newer agent's status is better shown in part than not at all.
func parseBuckets(text string) hashmode.Set {
	s, err := hashmode.ParseSet(text, hashmode.MaxBuckets)
	if err != nil {
		return hashmode.Set{}
	}
	return s
}

func (r *statusText) service(s coordinator.ServiceStatus) {
	var shares []share
	for _, n := range s.Nodes {
		if !r.bystander(n.Name) {
			shares = append(shares, shareOf(n))
		}
	}
	ports := "every port"
	if len(s.Ports) > 0 {
		ports = strings.ReplaceAll(some(s.Ports, 4), ", ", " ")
	}
	r.line("")
	hash := s.Hash
	if s.Prefix > 0 {
		hash += fmt.Sprintf(" /%d", s.Prefix)
	}
	r.line("%s  %s  %s  by %s  %s", r.paint(bold, s.Name), s.Address, ports, hash, plural(s.Buckets, "bucket"))
	var rest []share
	for _, sh := range shares {
		if r.crowded() && len(sh.Drain) == 0 && sh.Unfit == "" && r.unremarkable(sh.Name) {
			rest = append(rest, sh)
			continue
		}
		r.share(sh, s.Buckets)
	}
	if len(rest) > 0 {
		r.rest(rest, s.Buckets)
	}
	if lost := parseBuckets(s.Ownerless); !lost.Empty() {
		r.line("  %s", r.paint(red, "nobody answers "+plural(lost.Len(), "bucket")))
	}
	if s.Refuses {
		r.line("  %s", r.paint(red, "no node can serve it: new flows are refused"))
	}
	for _, sh := range shares {
		if why := r.without(sh); why != "" {
			for _, l := range wrap(why, 76) {
				r.line("  %s", r.paint(yellow, l))
			}
		}
	}
	for _, move := range r.moves(shares) {
		for _, l := range wrap(move, 76) {
			r.line("  %s", r.paint(yellow, l))
		}
	}
}

// unremarkable reports whether the node of that name is one of many.
func (r *statusText) unremarkable(name string) bool {
	i := slices.IndexFunc(r.Nodes, func(n coordinator.NodeStatus) bool { return n.Name == name })
	return i < 0 || r.Nodes[i].Name == r.Cluster.Leader || r.quiet(r.Nodes[i])
}

// bystander reports whether the node of that name is a witness: it has no share.
func (r *statusText) bystander(name string) bool {
	return slices.ContainsFunc(r.Nodes, func(n coordinator.NodeStatus) bool { return n.Name == name && witness(n) })
}

// share writes the line of one node.
func (r *statusText) share(s share, buckets int) {
	width := r.nameWidth()
	n := s.own.Len()
	notes := ""
	if waits := s.given.Len() - n; waits > 0 {
		notes += fmt.Sprintf("  waits %d", waits)
	}
	if drains := s.drain.Len(); drains > 0 {
		notes += fmt.Sprintf("  drains %d", drains)
		if s.Closing > 0 {
			notes += fmt.Sprintf(", %d closing", s.Closing)
		}
		if s.DrainLeftMS > 0 {
			notes += ", " + roughly(s.DrainLeftMS) + " at most"
		}
	}
	if pinned := parseBuckets(s.Pinned).Len(); pinned > 0 {
		notes += fmt.Sprintf("  %d pinned", pinned)
	}
	if s.Unfit != "" {
		notes += "  unfit"
	}
	r.line("%-*s  %s %6s  %4d bucket%s  %s%s", width, s.Name, r.bar(n, buckets, min(18, max(10, 26-width))), percent(n, buckets),
		n, pad(n), fmt.Sprintf("%5d flow%s", s.Flows, pad(s.Flows)), notes)
}

// roughly writes a time in milliseconds as people say it.
func roughly(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	switch {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < time.Hour:
		return strings.TrimSuffix(d.Round(time.Second).String(), "0s")
	}
	return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
}

// pad is the plural's letter, or a blank in its place.
func pad(n int) string {
	if n == 1 {
		return " "
	}
	return "s"
}

// rest sums up nodes that are like each other.
func (r *statusText) rest(shares []share, buckets int) {
	least, most, flows := buckets, 0, 0
	for _, s := range shares {
		least, most, flows = min(least, s.own.Len()), max(most, s.own.Len()), flows+s.Flows
	}
	each := fmt.Sprint(least)
	part := percent(least, buckets)
	if most > least {
		each = fmt.Sprintf("%d to %d", least, most)
		part += " to " + percent(most, buckets)
	}
	r.line("%s: %s buckets each (%s), %s together", plural(len(shares), "node"), each, part, plural(flows, "flow"))
}

// bar draws n of total.
func (r *statusText) bar(n, total, width int) string {
	full, empty := "#", "."
	if r.view.Unicode {
		full, empty = "█", "░"
	}
	filled := 0
	if total > 0 {
		filled = (n*width + total/2) / total
	}
	if n > 0 {
		filled = max(filled, 1)
	}
	filled = min(filled, width)
	return r.paint(cyan, strings.Repeat(full, filled)) + r.paint(dim, strings.Repeat(empty, width-filled))
}

// percent writes n of total.
func percent(n, total int) string {
	switch {
	case total == 0 || n == 0:
		return "0%"
	case n == total:
		return "100%"
	}
	return fmt.Sprintf("%.1f%%", float64(n)*100/float64(total))
}

// without says why a node that is in has no bucket, or is to be given none
// yet, and until when.
func (r *statusText) without(s share) string {
	i := slices.IndexFunc(r.Nodes, func(n coordinator.NodeStatus) bool { return n.Name == s.Name })
	if i >= 0 && r.Nodes[i].State != coordinator.StateIn {
		return "" // said above
	}
	if s.HeldUntil == "" {
		if s.Why == "" {
			return ""
		}
		return s.Name + " has no bucket: " + s.Why
	}
	at := s.HeldUntil
	if t, err := time.Parse(time.RFC3339, s.HeldUntil); err == nil {
		at = t.Format(time.TimeOnly)
	}
	left := (time.Duration(s.HeldMS) * time.Millisecond).Round(time.Second)
	text := fmt.Sprintf("%s is held until %s (%v)", s.Name, at, left)
	if s.Why != "" {
		text += ": " + s.Why
	}
	return text
}

// moves says which buckets are on their way: those that a node drains are now
// another's.
func (r *statusText) moves(shares []share) []string {
	arrow := "->"
	if r.view.Unicode {
		arrow = "→"
	}
	type target struct {
		name string
		n    int
	}
	var lines []string
	for _, from := range shares {
		if from.drain.Empty() {
			continue
		}
		var targets []target
		for _, to := range shares {
			if n := overlap(from.drain, to.given); n > 0 {
				targets = append(targets, target{to.Name, n})
			}
		}
		slices.SortStableFunc(targets, func(a, b target) int { return cmp.Compare(b.n, a.n) })
		var names []string
		for _, t := range targets {
			names = append(names, fmt.Sprintf("%s (%d)", t.name, t.n))
		}
		if len(names) == 0 {
			names = []string{"nobody"}
		}
		lines = append(lines, fmt.Sprintf("%s %s %s: new flows go there, old ones stay until they end", from.Name, arrow, some(names, 3)))
	}
	return lines
}

// overlap is the number of buckets that are in both sets.
func overlap(a, b hashmode.Set) int { return a.Len() - a.Minus(b).Len() }
