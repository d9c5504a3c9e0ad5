package e2e

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"earshot/e2e/lab"
	"earshot/e2e/load"
)

// loadLimit is the time for a skewed load to even out: a few rounds of 10 s.
const loadLimit = 3 * time.Minute

// Some big proxies, hashed by their address, are all with one node, and the
// service goes by load: their buckets move until each node has its part of the
// new connections, few at a time and without breaking any.
func TestSkewedLoadEvensOut(t *testing.T) { skewedLoad(t, 500, 240) }

// The same with connections alone that last no longer than a question: whenever
// somebody looks, next to none is open. They are few, so that it is so on a busy
// machine, too.
func TestSkewedLoadOfShortConnectionsEvensOut(t *testing.T) { skewedLoad(t, 25, 0) }

// skewedLoad has so many connections begin in a second, and so many stay open
// beside those.
func skewedLoad(t *testing.T, rate, stay int) {
	longStory(t)
	service := web("sourceip", "tcp/80")
	service.Balance = "load"
	l := newLab(t, lab.Options{Nodes: 3, Services: map[string]lab.Service{"web": service}})
	for _, n := range l.Nodes {
		n.Config.Mature = "1s"
	}
	if err := l.StartAll(); err != nil {
		t.Fatal(err)
	}
	whole(t, l, formLimit)
	formed(t, l)
	v := ask(t, l.Nodes[0]).service("web")
	owners := ownersOf(t, l.Nodes[0], "web")
	var proxies []netip.Addr
	buckets := map[int]bool{}
	for _, source := range l.Clients[0].SourceList(1000) {
		b := int(v.spec().Bucket(netip.AddrPortFrom(source, 1), webPort))
		if owners[b] == "n1" && !buckets[b] && len(proxies) < 12 {
			proxies, buckets[b] = append(proxies, source), true
		}
	}
	if len(proxies) < 12 {
		t.Fatalf("%d proxies", len(proxies))
	}
	w := watch(t, l)
	var open *load.Run
	if stay > 0 {
		p := held(l)
		p.Sources, p.Count = proxies, stay
		open = generate(t, l, p)
	}
	p := steady(l)
	p.Sources, p.Rate = proxies, rate
	news := generate(t, l, p)
	took := lab.Eventually(t, loadLimit, "the proxies are spread", func() error {
		now, err := ask(t, l.Nodes[0]).service("web").owners()
		if err != nil {
			return err
		}
		count := map[string]int{}
		for b := range buckets {
			count[now[b]]++
		}
		for _, n := range l.Nodes {
			// On a busy machine the run queue, which is that of all nodes
			// here, has the moves end at 6, 3 and 3.
			if count[n.Name] < 3 || count[n.Name] > 6 {
				return fmt.Errorf("proxies %v", count)
			}
		}
		return nil
	})
	t.Logf("spread after %v", took)
	moved := 0
	for b, owner := range ownersOf(t, l.Nodes[0], "web") {
		if owner != owners[b] {
			moved++
		}
	}
	if rounds := int(took/(10*time.Second)) + 1; moved > rounds*1024/64 {
		t.Errorf("%d buckets moved in %v", moved, took)
	}
	before := news.Count()
	const after = 250
	if err := news.Await(before+after, time.Minute); err != nil {
		t.Fatal(err)
	}
	share := map[string]int{}
	for _, r := range news.Records()[before:] {
		share[r.Node]++
	}
	for _, n := range l.Nodes {
		if share[n.Name] < after/6 {
			t.Errorf("new connections after that: %v", share)
			break
		}
	}
	noFailure(t, "new connections", finish(t, "new connections", news))
	if open != nil {
		noFailure(t, "open connections", finish(t, "open connections", open))
	}
	answeredOnce(t, w, load.TCP)
}
