package e2e

import (
	"net/netip"
	"testing"

	"earshot/e2e/lab"
	"earshot/e2e/load"
)

const (
	fragmented  = 10000 // datagrams over IPv4; a fifth as many over IPv6
	datagramLen = 4000  // bytes: three fragments
)

// Ports choose the bucket, and only the first fragment has them: every
// fragmented datagram is answered, once, by the node that the map names.
func TestFragmentedDatagramsAreAnsweredOnceAsTheMapSays(t *testing.T) {
	four, six := web("sourceip-sourceport-destport", "udp/7000"), web("sourceip-sourceport-destport", "udp/7000")
	six.Address = sixthAddr.String() + "/64"
	l := newCluster(t, lab.Options{Nodes: 3, Services: map[string]lab.Service{"four": four, "six": six}})
	for _, c := range []struct {
		service string
		target  netip.Addr
		sources []netip.Addr
		count   int
	}{
		{"four", serviceAddr, l.Clients[0].SourceList(1000), fragmented},
		{"six", sixthAddr, []netip.Addr{l.Clients[0].Port.IPv6}, fragmented / 5},
	} {
		t.Run(c.service, func(t *testing.T) {
			w := watch(t, l)
			service, owners := ask(t, l.Nodes[0]).service(c.service), ownersOf(t, l.Nodes[0], c.service)
			for _, r := range complete(t, l, load.Plan{
				Kind: load.UDP, Target: netip.AddrPortFrom(c.target, echoPort), Sources: c.sources,
				Rate: 1000, Count: c.count, Size: datagramLen,
			}) {
				if want := service.expect(owners, r.Client, echoPort); r.Node != want || r.Answers != 1 {
					t.Errorf("%s: %d answers, by %s, not by %s", r.Client, r.Answers, r.Node, want)
				}
			}
			v := answeredOnce(t, w, load.Datagram)
			everyNode(t, l, v)
			if v.Asked != c.count {
				t.Errorf("the witness saw %d questions of %d", v.Asked, c.count)
			}
		})
	}
}
