package e2e

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"earshot/e2e/lab"
	"earshot/e2e/load"
)

// A new service whose interface is mistyped is served by nobody, and costs the
// others nothing (I2, I3), be an agent restarted meanwhile; when the file is
// mended and read again, it is served.
func TestAMistypedInterfaceCostsItsServiceAlone(t *testing.T) {
	l := newCluster(t, lab.Options{Nodes: 3, Services: map[string]lab.Service{"web": web("sourceip", "tcp/80")}})
	n1 := l.Nodes[0]
	w := watch(t, l)
	news, open := generate(t, l, steady(l)), generate(t, l, held(l))
	wait(t, news)
	// file names the service mail and its interface in a node's file.
	file := func(n *lab.Node, ifname string) {
		t.Helper()
		mail := web("sourceip", "tcp/80")
		mail.Address, mail.Interface = secondAddr.String()+"/24", ifname
		n.Config.Services = maps.Clone(n.Config.Services)
		n.Config.Services["mail"] = mail
		if err := n.WriteConfig(); err != nil {
			t.Fatal(err)
		}
	}
	file(n1, "eht1")
	if out := command(t, n1, "apply", "--yes"); !strings.Contains(out, "this node could not serve it: interface eht1: no such interface") {
		t.Errorf("apply says:\n%s", out)
	}
	for _, n := range l.Nodes {
		inStatus(t, n1, n.Name+": cannot serve mail: interface eht1: no such interface", true)
	}
	wait(t, news)
	if err := n1.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := n1.Start(); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, formLimit, "all nodes have their share of web", func() error {
		s, err := statusOf(n1)
		if err != nil {
			return err
		}
		for _, n := range l.Nodes {
			if got := s.node(n.Name); !got.Alive || got.State != "in" || s.service("web").owned(n.Name) == 0 {
				return fmt.Errorf("%s: %+v", n.Name, got)
			}
		}
		return nil
	})
	wait(t, news)
	for _, n := range l.Nodes {
		file(n, "eth1")
		command(t, n, "reload")
	}
	t.Logf("whole after %v", whole(t, l, formLimit))
	inStatus(t, n1, "cannot serve mail", false)
	p := thousand(l, load.HTTP, webPort)
	p.Target = netip.AddrPortFrom(secondAddr, webPort)
	complete(t, l, p)
	noFailure(t, "new connections", finish(t, "new connections", news))
	noFailure(t, "open connections", finish(t, "open connections", open))
	answeredOnce(t, w, load.TCP)
}
