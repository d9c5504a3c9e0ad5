package e2e

import (
	"errors"
	"net/netip"
	"testing"

	"earshot/e2e/lab"
	"earshot/e2e/load"
)

// sixthAddr is the shared address of the IPv6 stories, on the lab's segment.
var sixthAddr = netip.MustParseAddr("fd00:38::20")

// errShare: a share is not as it should be yet.
var errShare = errors.New("share of n2 not as wanted")

// IPv6 beside IPv4, by multicast and by stealth MAC: each client is answered
// once, by the node that the map names, also while a node goes out and comes
// back. The witness sees every frame of it.
func TestIPv6AndStealthAreAnsweredAsTheMapSays(t *testing.T) {
	for _, mode := range []string{"multicast", "stealth"} {
		t.Run(mode, func(t *testing.T) {
			four, six := web("sourceip-sourceport", "tcp/80"), web("sourceip-sourceport", "tcp/80")
			six.Address = sixthAddr.String() + "/64"
			four.MACMode, six.MACMode = mode, mode
			l := newCluster(t, lab.Options{Nodes: 3, Services: map[string]lab.Service{"four": four, "six": six}})
			w := watch(t, l)
			asMapped(t, l, "four", serviceAddr, l.Clients[0].SourceList(1000))
			asMapped(t, l, "six", sixthAddr, []netip.Addr{l.Clients[0].Port.IPv6})
			everyNode(t, l, answeredOnce(t, w, load.TCP))
			goesAndComes(t, l)
		})
	}
}

// asMapped has a thousand new connections answered by the nodes that the map
// names.
func asMapped(t *testing.T, l *lab.Lab, name string, address netip.Addr, sources []netip.Addr) {
	t.Helper()
	service, owners := ask(t, l.Nodes[0]).service(name), ownersOf(t, l.Nodes[0], name)
	p := thousand(l, load.HTTP, webPort)
	p.Target, p.Sources = netip.AddrPortFrom(address, webPort), sources
	for _, r := range complete(t, l, p) {
		if want := service.expect(owners, r.Client, webPort); r.Node != want {
			t.Errorf("%s: answered by %s, not by %s", r.Client, r.Node, want)
		}
	}
}

// goesAndComes takes n2 out and brings it back under new connections over
// IPv6, of which none may fail.
func goesAndComes(t *testing.T, l *lab.Lab) {
	t.Helper()
	p := steady(l)
	p.Target, p.Sources, p.Rate = netip.AddrPortFrom(sixthAddr, webPort), []netip.Addr{l.Clients[0].Port.IPv6}, 200
	news := generate(t, l, p)
	for _, c := range []string{"out", "in"} {
		command(t, l.Nodes[0], c, "n2")
		wanted := c == "in"
		lab.Eventually(t, moveLimit, c+" n2", func() error {
			s, err := statusOf(l.Nodes[0])
			if err == nil && (s.service("six").owned("n2") > 0) != wanted {
				err = errShare
			}
			return err
		})
	}
	noFailure(t, "new connections over IPv6", finish(t, "new connections over IPv6", news))
}
