package e2e

import (
	"fmt"
	"net/netip"
	"testing"

	"earshot/e2e/lab"
	"earshot/e2e/load"
)

const (
	smallPath    = 1280 // bytes: the smallest path that IPv6 knows
	downloadSize = 3 << 20
	perNode      = 4 // clients of each node
)

// Clients behind a router, whose path takes smaller packets than the segment:
// the router learns the cluster MAC, its complaint reaches the node that has
// the flow, and downloads come through, in both families. So they do when the
// router has forgotten the MAC.
func TestARouterWithASmallPathBehindIt(t *testing.T) {
	four, six := web("sourceip", "tcp/80"), web("sourceip", "tcp/80")
	six.Address = sixthAddr.String() + "/64"
	l := newCluster(t, lab.Options{Nodes: 3, Services: map[string]lab.Service{"four": four, "six": six}})
	r, err := l.AddRouter(smallPath)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		service string
		target  netip.Addr
		source  func(i int) netip.Addr
		sources int
	}{
		{"four", serviceAddr, r.Source, 1000},
		{"six", sixthAddr, func(i int) netip.Addr { return r.Sources6[i] }, len(r.Sources6)},
	} {
		t.Run(c.service, func(t *testing.T) {
			service, owners := ask(t, l.Nodes[0]).service(c.service), ownersOf(t, l.Nodes[0], c.service)
			var sources []netip.Addr
			each := map[string]int{}
			for i := range c.sources {
				source := c.source(i)
				node := service.expect(owners, netip.AddrPortFrom(source, 0), webPort)
				if each[node]++; each[node] <= perNode {
					sources = append(sources, source)
				}
			}
			before, err := r.Complaints(c.target.Is6())
			if err != nil {
				t.Fatal(err)
			}
			p := load.Plan{
				Kind: load.HTTP, Target: netip.AddrPortFrom(c.target, webPort), Path: fmt.Sprintf("/slow?for=0s&bytes=%d", downloadSize),
				Sources: sources, Count: len(sources), Rate: 100, Timeout: formLimit,
			}
			download := func() {
				t.Helper()
				run, err := load.Start(r.Far, p)
				if err != nil {
					t.Fatal(err)
				}
				records, err := run.Wait()
				if err != nil {
					t.Fatal(err)
				}
				t.Log(records.Summary())
				noFailure(t, "downloads", records)
				for _, r := range records {
					if want := service.expect(owners, r.Client, webPort); r.Node != want {
						t.Errorf("%s: answered by %s, not by %s", r.Client, r.Node, want)
					}
				}
			}
			download()
			after, err := r.Complaints(c.target.Is6())
			if err != nil {
				t.Fatal(err)
			}
			if len(each) < len(l.Nodes) || after-before < len(sources) {
				t.Errorf("the router complained %d times to %d nodes about %d downloads", after-before, len(each), len(sources))
			}
			if err := r.ForgetNeighbours(); err != nil {
				t.Fatal(err)
			}
			download()
		})
	}
}
