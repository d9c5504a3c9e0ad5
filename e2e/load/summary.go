package load

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Records are requests.
type Records []Record

// Summary is what became of requests.
type Summary struct {
	Requests      int
	Failures      map[Failure]int
	Nodes         map[string]int // answers per node
	P50, P99, Max time.Duration  // of those answered
	Doubles       int            // datagrams with more than one answer
}

// Summary counts.
func (rs Records) Summary() Summary {
	s := Summary{Requests: len(rs), Failures: map[Failure]int{}, Nodes: map[string]int{}}
	var latencies []time.Duration
	for _, r := range rs {
		if r.Answers > 1 {
			s.Doubles++
		}
		if r.Failure != "" {
			s.Failures[r.Failure]++
			continue
		}
		s.Nodes[r.Node]++
		latencies = append(latencies, r.Latency)
	}
	slices.Sort(latencies)
	s.P50, s.P99, s.Max = quantile(latencies, 0.5), quantile(latencies, 0.99), quantile(latencies, 1)
	return s
}

// quantile returns the q-quantile of sorted values, zero of none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(q*float64(len(sorted)-1))]
}

// Failed are the requests that failed.
func (rs Records) Failed() Records {
	var failed Records
	for _, r := range rs {
		if r.Failure != "" {
			failed = append(failed, r)
		}
	}
	return failed
}

// Since are the requests that began at or after a time.
func (rs Records) Since(t time.Time) Records {
	var later Records
	for _, r := range rs {
		if !r.Start.Before(t) {
			later = append(later, r)
		}
	}
	return later
}

// Moved are the clients, by address and port, that several nodes answered.
func (rs Records) Moved() []string {
	nodes := map[netip.AddrPort]map[string]bool{}
	for _, r := range rs {
		if r.Node == "" {
			continue
		}
		if nodes[r.Client] == nil {
			nodes[r.Client] = map[string]bool{}
		}
		nodes[r.Client][r.Node] = true
	}
	var moved []string
	for c, by := range nodes {
		if len(by) > 1 {
			moved = append(moved, fmt.Sprintf("%s: answered by %s", c, join(by)))
		}
	}
	slices.Sort(moved)
	return moved
}

// Slower are the requests that were answered later than a limit.
func (rs Records) Slower(than time.Duration) Records {
	var slow Records
	for _, r := range rs {
		if r.Failure == "" && r.Latency > than {
			slow = append(slow, r)
		}
	}
	return slow
}

// String is one line for people.
func (s Summary) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests, p50 %v, p99 %v, max %v; nodes", s.Requests,
		s.P50.Round(10*time.Microsecond), s.P99.Round(10*time.Microsecond), s.Max.Round(10*time.Microsecond))
	for _, node := range slices.Sorted(maps.Keys(s.Nodes)) {
		fmt.Fprintf(&b, " %s=%d", node, s.Nodes[node])
	}
	b.WriteString("; failed")
	if len(s.Failures) == 0 {
		b.WriteString(" 0")
	}
	for _, kind := range slices.Sorted(maps.Keys(s.Failures)) {
		fmt.Fprintf(&b, " %s=%d", kind, s.Failures[kind])
	}
	if s.Doubles > 0 {
		fmt.Fprintf(&b, "; answered twice %d", s.Doubles)
	}
	return b.String()
}
