package main

import (
	"net/netip"
	"time"

	"earshot/e2e/load"
)

const (
	// window is the time that "now" means for shares.
	window = time.Second
	// prompt is an answer that nobody notices waiting for. A lost SYN costs
	// its client a second.
	prompt = 250 * time.Millisecond
)

// act is one part of the story.
type act struct {
	name  string
	began time.Time
	// sudden: what was under way when the act began belongs to it.
	sudden bool
	// faultless: not one request may fail.
	faultless bool
}

// sample is everything that the client has been answered until a moment.
type sample struct {
	at    time.Time
	fresh load.Records // each on a connection of its own
	kept  load.Records // on connections that stay open
}

// count is what became of an act's requests.
type count struct {
	requests int
	waited   int // answered, but not promptly
	failures map[load.Failure]int
	slowest  time.Duration // of those answered
}

// failed is the number of requests that failed.
func (c count) failed() int {
	n := 0
	for _, k := range c.failures {
		n += k
	}
	return n
}

// add counts one request.
func (c *count) add(r load.Record) {
	c.requests++
	if r.Failure != "" {
		c.failures[r.Failure]++
		return
	}
	c.slowest = max(c.slowest, r.Latency)
	if r.Latency > prompt {
		c.waited++
	}
}

// counts counts requests by act.
func (s sample) counts(acts []act) []count {
	all := make([]count, len(acts))
	for i := range all {
		all[i].failures = map[load.Failure]int{}
	}
	for _, records := range []load.Records{s.fresh, s.kept} {
		for _, r := range records {
			all[actOf(acts, r)].add(r)
		}
	}
	return all
}

// actOf is the act that a request belongs to: the one it began in, or a sudden
// one that it did not survive.
func actOf(acts []act, r load.Record) int {
	for i := len(acts) - 1; i > 0; i-- {
		began := acts[i].began
		if !r.Start.Before(began) || acts[i].sudden && r.Start.Add(r.Latency).After(began) {
			return i
		}
	}
	return 0
}

// shares counts the new connections that each node answered in the last window.
func (s sample) shares() map[string]int {
	nodes := map[string]int{}
	for _, r := range s.recent() {
		if r.Failure == "" {
			nodes[r.Node]++
		}
	}
	return nodes
}

// recent are the new connections that ended in the last window.
func (s sample) recent() load.Records {
	var recent load.Records
	for _, r := range s.fresh {
		if r.Start.Add(r.Latency).After(s.at.Add(-window)) {
			recent = append(recent, r)
		}
	}
	return recent
}

// share is a node's part of the answers in the last window.
func (s sample) share(node string) float64 {
	all := 0
	nodes := s.shares()
	for _, n := range nodes {
		all += n
	}
	if all == 0 {
		return 0
	}
	return float64(nodes[node]) / float64(all)
}

// open counts the connections that are kept open with each node.
func (s sample) open() map[string]int {
	last := map[netip.AddrPort]load.Record{}
	for _, r := range s.kept {
		last[r.Client] = r
	}
	nodes := map[string]int{}
	for _, r := range last {
		if r.Failure == "" {
			nodes[r.Node]++
		}
	}
	return nodes
}

// firstBy is when a node was first asked anew after a moment, and answered.
func (s sample) firstBy(node string, since time.Time) (time.Duration, bool) {
	var first time.Duration
	found := false
	for _, r := range s.fresh.Since(since) {
		if d := r.Start.Sub(since); r.Failure == "" && r.Node == node && (!found || d < first) {
			first, found = d, true
		}
	}
	return first, found
}

// lastBy is when a node was last asked anew after a moment, and answered.
func (s sample) lastBy(node string, since time.Time) time.Duration {
	var last time.Duration
	for _, r := range s.fresh.Since(since) {
		if r.Failure == "" && r.Node == node {
			last = max(last, r.Start.Sub(since))
		}
	}
	return last
}

// gap is how long after a moment new connections still failed or waited.
func (s sample) gap(since time.Time) time.Duration {
	var last time.Duration
	for _, r := range s.fresh.Since(since) {
		if r.Failure != "" || r.Latency > prompt {
			last = max(last, r.Start.Sub(since))
		}
	}
	return last
}

// calm reports that the last window's new connections were all answered
// promptly.
func (s sample) calm() bool {
	recent := s.recent()
	for _, r := range recent {
		if r.Failure != "" || r.Latency > prompt {
			return false
		}
	}
	return len(recent) > 0
}
