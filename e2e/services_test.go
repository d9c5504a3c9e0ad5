package e2e

import (
	"net/netip"
	"testing"

	"earshot/e2e/lab"
	"earshot/e2e/load"
)

// Services side by side: two ports of one address, and a second address with
// every port, each with a hash of its own. Each is answered as its own map
// says, once.
func TestServicesSideBySide(t *testing.T) {
	second := web("sourceip")
	second.Address, second.Buckets = secondAddr.String()+"/24", 7
	l := newCluster(t, lab.Options{Nodes: 3, Services: map[string]lab.Service{
		"web":  web("sourceip-sourceport", "tcp/80"),
		"more": web("sourceip", "tcp/8080"),
		"wide": second,
	}})
	w := watch(t, l)
	for _, c := range []struct {
		service string
		target  netip.AddrPort
	}{
		{"web", netip.AddrPortFrom(serviceAddr, 80)},
		{"more", netip.AddrPortFrom(serviceAddr, 8080)},
		{"wide", netip.AddrPortFrom(secondAddr, 80)},
		{"wide", netip.AddrPortFrom(secondAddr, 8080)},
	} {
		t.Run(c.service+" "+c.target.String(), func(t *testing.T) {
			service := ask(t, l.Nodes[0]).service(c.service)
			owners := ownersOf(t, l.Nodes[0], c.service)
			p := thousand(l, load.HTTP, c.target.Port())
			p.Target = c.target
			for _, r := range complete(t, l, p) {
				if want := service.expect(owners, r.Client, c.target.Port()); r.Node != want {
					t.Errorf("%s: answered by %s, not by %s", r.Client, r.Node, want)
				}
			}
		})
	}
	everyNode(t, l, answeredOnce(t, w, load.TCP))
}

// A port that no service names is refused by exactly one node: the client
// learns at once, and is told once (P22).
func TestAnUnnamedPortIsRefusedOnce(t *testing.T) {
	l := newCluster(t, lab.Options{Nodes: 3, Services: webAndEcho("sourceip-sourceport")})
	w := watch(t, l)
	p := thousand(l, load.HTTP, 4444)
	records, err := generate(t, l, p).Wait()
	if err != nil {
		t.Fatal(err)
	}
	if s := records.Summary(); s.Failures[load.Refused] != clients {
		t.Errorf("not all refused: %v", s)
	}
	everyNode(t, l, answeredOnce(t, w, load.TCP))
}
