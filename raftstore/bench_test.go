package raftstore

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"
	"time"
)

// benched starts three nodes with the default lease.
func benched(b *testing.B) []*node {
	nodes := cluster(b, 3)
	for _, n := range nodes {
		n.options.Lease = 300 * time.Millisecond
		n.start()
	}
	return nodes
}

// BenchmarkCommit measures a proposal on the leader of three stores on disk,
// and when the last of them has it.
func BenchmarkCommit(b *testing.B) {
	nodes := benched(b)
	leader := settle(b, nodes)
	var commits, lags []time.Duration
	for b.Loop() {
		begin := time.Now()
		index, err := leader.Propose(b.Context(), Command{Wish: &Wish{Node: leader.options.Name}})
		if err != nil {
			b.Fatal(err)
		}
		commits = append(commits, time.Since(begin))
		for _, n := range nodes {
			for n.State().Index < index {
				pause(b.Context(), 100*time.Microsecond)
			}
		}
		lags = append(lags, time.Since(begin))
	}
	report(b, commits, "commit")
	report(b, lags, "everywhere")
}

// BenchmarkElection measures from the loss of the leader to the first command
// that its successor has committed.
func BenchmarkElection(b *testing.B) {
	nodes := benched(b)
	var times []time.Duration
	for b.Loop() {
		old := settle(b, nodes)
		begin := time.Now()
		old.stop()
		for !commits(b.Context(), nodes, old) {
			pause(b.Context(), time.Millisecond)
		}
		times = append(times, time.Since(begin))
		old.start()
	}
	report(b, times, "election")
}

func commits(ctx context.Context, nodes []*node, without *node) bool {
	for _, n := range nodes {
		if n != without && n.Leadership().Self {
			_, err := n.Propose(ctx, Command{Tick: &Tick{}})
			return err == nil || !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrUnknown)
		}
	}
	return false
}

// BenchmarkIdle measures what three stores in one process cost per second when
// nothing happens.
func BenchmarkIdle(b *testing.B) {
	nodes := benched(b)
	settle(b, nodes)
	begin, used := time.Now(), cpu(b)
	for b.Loop() {
		pause(b.Context(), time.Second)
	}
	b.ReportMetric(100*float64(cpu(b)-used)/float64(time.Since(begin)), "%cpu/3nodes")
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func report(b *testing.B, d []time.Duration, what string) {
	slices.Sort(d)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(d[len(d)/2]), "ms_"+what+"_median")
	b.ReportMetric(ms(d[len(d)*99/100]), "ms_"+what+"_p99")
	b.ReportMetric(ms(d[len(d)-1]), "ms_"+what+"_max")
}
