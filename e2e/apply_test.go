package e2e

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"earshot/e2e/lab"
	"earshot/e2e/load"
)

const strayPort = 8080

// redefined changes the service web in a node's file and applies it.
func redefined(t *testing.T, n *lab.Node, change func(*lab.Service)) string {
	t.Helper()
	n.Config.Services = maps.Clone(n.Config.Services)
	service := n.Config.Services["web"]
	change(&service)
	n.Config.Services["web"] = service
	if err := n.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	return command(t, n, "apply", "--yes")
}

// settled waits until all nodes tell of the service as wanted and nobody waits
// for a bucket.
func settled(t *testing.T, l *lab.Lab, wanted func(serviceStatus) bool) {
	t.Helper()
	took := lab.Eventually(t, moveLimit, "all nodes have taken the change in", func() error {
		for _, n := range l.Nodes {
			s, err := statusOf(n)
			if err != nil {
				return err
			}
			web := s.service("web")
			if !wanted(web) {
				return fmt.Errorf("%s says %s with %d buckets", n.Name, web.Hash, web.Buckets)
			}
			if _, err := web.owners(); err != nil {
				return err
			}
		}
		return nil
	})
	t.Logf("taken in after %v", took)
}

// I1, I3: the hash, the ports, the number of buckets and the drain of a service
// change under 500 new connections per second. 100 open connections to its port
// and 100 to one that it does not name at first stay where they are.
func TestApplyBreaksNoConnection(t *testing.T) {
	l := newCluster(t, lab.Options{Nodes: 3, Services: map[string]lab.Service{"web": web("sourceip", "tcp/80")}})
	w := watch(t, l)
	strays := held(l)
	strays.Target = netip.AddrPortFrom(serviceAddr, strayPort)
	news, open, stray := generate(t, l, steady(l)), generate(t, l, held(l)), generate(t, l, strays)
	wait(t, news)
	for i, step := range []struct {
		what   string
		change func(*lab.Service)
		moves  bool
		seen   func(serviceStatus) bool
	}{
		{"hash", func(s *lab.Service) { s.Hash = "sourceip-sourceport" }, true, func(v serviceStatus) bool { return v.Hash == "sourceip-sourceport" }},
		{"ports", func(s *lab.Service) { s.Ports = []string{"tcp/80", "tcp/8080"} }, true, func(serviceStatus) bool { return true }},
		{"more buckets", func(s *lab.Service) { s.Buckets = 4096 }, true, func(v serviceStatus) bool { return v.Buckets == 4096 }},
		{"drain", func(s *lab.Service) { s.Drain = lab.Duration(2 * time.Minute) }, false, func(serviceStatus) bool { return true }},
		{"fewer buckets and a hash", func(s *lab.Service) { s.Hash, s.Buckets = "sourceip", 512 }, true,
			func(v serviceStatus) bool { return v.Hash == "sourceip" && v.Buckets == 512 }},
	} {
		out := redefined(t, l.Nodes[i%len(l.Nodes)], func(s *lab.Service) {
			*s = l.Nodes[0].Config.Services["web"]
			step.change(s)
		})
		l.Nodes[0].Config.Services = l.Nodes[i%len(l.Nodes)].Config.Services
		if handed := strings.Contains(out, "handed over"); handed != step.moves {
			t.Errorf("%s: handed over %v:\n%s", step.what, handed, out)
		}
		settled(t, l, step.seen)
		wait(t, news)
	}
	noFailure(t, "new connections", finish(t, "new connections", news))
	noFailure(t, "open connections", finish(t, "open connections", open))
	noFailure(t, "open connections to another port", finish(t, "open connections to another port", stray))
	if v := answeredOnce(t, w, load.TCP); v.Unanswered > 0 {
		t.Errorf("%d SYNs never answered", v.Unanswered)
	}
}

// A node whose file differs says so until it is mended and read again; what is
// refused, is so with the reason and changes nothing.
func TestApplyRefusesAndRemoves(t *testing.T) {
	services := webAndEcho("sourceip")
	l := newCluster(t, lab.Options{Nodes: 3, Services: services})
	n1, n2 := l.Nodes[0], l.Nodes[1]
	redefined(t, n1, func(s *lab.Service) { s.Drain = lab.Duration(90 * time.Second) })
	inStatus(t, n1, "n2: service web: the cluster has drain: 1m30s, not 1h0m0s", true)
	n2.Config.Services = n1.Config.Services
	if err := n2.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	if out := command(t, n2, "reload"); !strings.Contains(out, "services.web.drain") {
		t.Errorf("reload says %q", out)
	}
	inStatus(t, n1, "n2: service web", false)

	n1.Config.Services = maps.Clone(n1.Config.Services)
	other := n1.Config.Services["web"]
	other.Address = "192.168.56.99/24"
	n1.Config.Services["web"] = other
	if err := n1.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	r, err := n1.Run("apply", "--yes")
	if err != nil || r.Code != 1 || !strings.Contains(r.Stderr, "cannot change while the service is there") || !strings.Contains(r.Stderr, "hint: ") {
		t.Errorf("another address: %+v, %v", r, err)
	}
	n1.Config.Services["web"] = n2.Config.Services["web"]

	// Echo goes, and stays away from nodes whose file has it.
	delete(n1.Config.Services, "echo")
	if err := n1.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	if out := command(t, n1, "apply", "--yes"); !strings.Contains(out, "echo: not in the file, and left alone") {
		t.Errorf("without --prune: %s", out)
	}
	command(t, n1, "apply", "--yes", "--prune")
	inStatus(t, n1, "n2: service echo of this node's config was removed from the cluster", true)
	if err := n2.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := n2.Start(); err != nil {
		t.Fatal(err)
	}
	whole(t, l, formLimit)
	if s := ask(t, n2); len(s.Services) != 1 {
		t.Errorf("after a restart there are services %+v", s.Services)
	}

	// With its last service, the address goes from every node.
	n1.Config.Services = map[string]lab.Service{"new": {
		Address: secondAddr.String() + "/24", Interface: "eth1", Buckets: 64,
	}}
	if err := n1.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	command(t, n1, "apply", "--yes", "--prune")
	lab.Eventually(t, moveLimit, "the address is gone from every node", func() error {
		for _, n := range l.Nodes {
			traces, err := n.Snapshot()
			if err != nil {
				return err
			}
			if strings.Contains(traces, serviceAddr.String()+"/32") || !strings.Contains(traces, secondAddr.String()+"/32") {
				return fmt.Errorf("%s has %s", n.Name, traces)
			}
		}
		return nil
	})
}
