package e2e

import (
	"fmt"
	"testing"
	"time"

	"earshot/e2e/lab"
	"earshot/e2e/load"
)

// I1, I3: each node in turn is taken out and brought back under 500 new
// connections per second and 100 open ones. Nothing is refused, reset or lost,
// nobody is answered twice, and no bucket moves that need not.
func TestOutAndInBreakNoConnection(t *testing.T) {
	l := newCluster(t, lab.Options{Nodes: 3, Services: map[string]lab.Service{"web": web("sourceip-sourceport", "tcp/80")}})
	w := watch(t, l)
	news, open := generate(t, l, steady(l)), generate(t, l, held(l))
	for i, n := range l.Nodes {
		// Asked of another node each time: any node takes any command.
		outAndIn(t, l.Nodes[(i+1)%len(l.Nodes)], n, news)
	}
	noFailure(t, "new connections", finish(t, "new connections", news))
	noFailure(t, "open connections", finish(t, "open connections", open))
	if v := answeredOnce(t, w, load.TCP); v.Unanswered > 0 {
		t.Errorf("%d SYNs never answered", v.Unanswered)
	}
}

// outAndIn takes a node out and brings it back by commands to another.
func outAndIn(t *testing.T, operator, n *lab.Node, news *load.Run) {
	t.Helper()
	before := ownersOf(t, operator, "web")
	command(t, operator, "out", n.Name)
	silent := shareBecomes(t, operator, n.Name, func(own int) bool { return own == 0 })
	onlyMoved(t, before, ownersOf(t, operator, "web"), func(old, _ string) bool { return old == n.Name })
	wait(t, news)
	for _, r := range news.Records().Since(silent) {
		if r.Node == n.Name {
			t.Errorf("%s is out and answered a new connection of %s", n.Name, r.Client)
		}
	}

	before = ownersOf(t, operator, "web")
	command(t, operator, "in", n.Name)
	shareBecomes(t, operator, n.Name, func(own int) bool { return own >= len(before)/3 })
	onlyMoved(t, before, ownersOf(t, operator, "web"), func(_, now string) bool { return now == n.Name })
	wait(t, news)
}

// wait lets one second's worth of connections pass.
func wait(t *testing.T, news *load.Run) {
	t.Helper()
	if err := news.AwaitMore(500, 20*time.Second); err != nil {
		t.Fatal(err)
	}
}

// shareBecomes waits until a node's share is as wanted and no move waits. It
// returns when that was seen.
func shareBecomes(t *testing.T, operator *lab.Node, name string, wanted func(own int) bool) time.Time {
	t.Helper()
	took := lab.Eventually(t, moveLimit, "share of "+name, func() error {
		s, err := statusOf(operator)
		if err != nil {
			return err
		}
		service := s.service("web")
		if _, err := service.owners(); err != nil {
			return err
		}
		if own := service.owned(name); !wanted(own) {
			return fmt.Errorf("%s owns %d buckets", name, own)
		}
		return nil
	})
	t.Logf("share of %s moved after %v", name, took)
	return time.Now()
}

// onlyMoved demands that each bucket that changed its owner may have.
func onlyMoved(t *testing.T, before, after []string, may func(old, now string) bool) {
	t.Helper()
	for b := range before {
		if before[b] != after[b] && !may(before[b], after[b]) {
			t.Errorf("bucket %d moved from %s to %s without need", b, before[b], after[b])
		}
	}
	counts := map[string]int{}
	for _, owner := range after {
		counts[owner]++
	}
	lo, hi := len(after), 0
	for _, c := range counts {
		lo, hi = min(lo, c), max(hi, c)
	}
	if hi-lo > 1 {
		t.Errorf("uneven shares: %v", counts)
	}
}
