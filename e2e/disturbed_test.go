package e2e

import (
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"earshot/e2e/lab"
	"earshot/e2e/load"
)

// disturbance is what somebody does to a node's kernel.
type disturbance struct {
	name string
	do   func(t *testing.T, l *lab.Lab, n *lab.Node) error
	logs string // what the agent says of it, once
}

const (
	rulesRepaired = "rules changed by others: repaired"
	repaired      = "changed by others: repaired"
)

func disturbances() []disturbance {
	return []disturbance{
		{"nft flush ruleset", func(_ *testing.T, _ *lab.Lab, n *lab.Node) error { return n.FlushRuleset() }, rulesRepaired},
		{"address removed", func(_ *testing.T, _ *lab.Lab, n *lab.Node) error { return n.RemoveAddress(serviceAddr) }, repaired},
		{"IPv6 address removed", func(_ *testing.T, _ *lab.Lab, n *lab.Node) error { return n.RemoveAddress(sixthAddr) }, repaired},
		{"MAC membership removed", func(t *testing.T, _ *lab.Lab, n *lab.Node) error {
			mac, err := net.ParseMAC(ask(t, n).service("four").MAC)
			if err != nil {
				return err
			}
			return n.LeaveMAC(mac)
		}, repaired},
		{"arp_announce changed", func(_ *testing.T, _ *lab.Lab, n *lab.Node) error {
			return n.Sysctl("net/ipv4/conf/eth1/arp_announce", "0")
		}, repaired},
		{"interface down and up", func(t *testing.T, l *lab.Lab, n *lab.Node) error {
			if err := l.SetLink(n, false); err != nil {
				return err
			}
			owns(t, n, false)
			return l.SetLink(n, true)
		}, "can serve again"},
		{"interface deleted and made anew", func(_ *testing.T, l *lab.Lab, n *lab.Node) error { return l.RemakeLink(n) }, repaired},
	}
}

// owns waits until the node has a share of the service, or none.
func owns(t *testing.T, n *lab.Node, wanted bool) {
	t.Helper()
	lab.Eventually(t, moveLimit, fmt.Sprintf("%s owns a share: %v", n.Name, wanted), func() error {
		s, err := statusOf(n)
		if err == nil && (s.service("four").owned(n.Name) > 0) != wanted {
			err = errShare
		}
		return err
	})
}

// Whatever others do to a node's kernel under load is repaired and logged once
// (I6), and afterwards each client is answered. How long each repair takes is
// logged.
func TestWhatOthersDoIsRepaired(t *testing.T) {
	four, six := web("sourceip-sourceport", "tcp/80"), web("sourceip-sourceport", "tcp/80")
	six.Address = sixthAddr.String() + "/64"
	l := newCluster(t, lab.Options{Nodes: 3, Apart: true, Services: map[string]lab.Service{"four": four, "six": six}})
	n := l.Node("n2")
	for _, d := range disturbances() {
		t.Run(d.name, func(t *testing.T) {
			news := generate(t, l, steady(l))
			if err := news.Await(100, moveLimit); err != nil {
				t.Fatal(err)
			}
			before, logged := standing(t, n), len(n.Log())
			if err := d.do(t, l, n); err != nil {
				t.Fatal(err)
			}
			done := time.Now()
			lab.Eventually(t, moveLimit, "repair", func() error {
				if lost := missing(before, standing(t, n)); len(lost) > 0 {
					return fmt.Errorf("missing: %s", strings.Join(lost, "; "))
				}
				return nil
			})
			t.Logf("repaired %v after it was done", time.Since(done).Round(time.Millisecond))
			owns(t, n, true)
			whole(t, l, moveLimit)
			records, err := news.Stop()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("meanwhile: %v", records.Summary())
			complete(t, l, thousand(l, load.HTTP, webPort))
			said(t, n.Log()[logged:], d.logs)
		})
	}
}

// standing are those lines of a snapshot that must come back. The sets' share
// of the map, the lease's slots, and whatever has an interface's number in it,
// are others after a while.
func standing(t *testing.T, n *lab.Node) []string {
	t.Helper()
	return slices.DeleteFunc(strings.Split(snapshot(t, n), "\n"), func(line string) bool {
		ours := strings.HasPrefix(line, "element inet earshot shared") || strings.HasPrefix(line, "element inet earshot former")
		return strings.HasPrefix(line, "element ") && !ours || strings.HasPrefix(line, "fdb ") || strings.HasPrefix(line, "route ")
	})
}

// missing are the lines of before that are not in after.
func missing(before, after []string) []string {
	return slices.DeleteFunc(slices.Clone(before), func(line string) bool { return slices.Contains(after, line) })
}

// said demands that the log tells of the message, and of nothing twice.
func said(t *testing.T, log, message string) {
	t.Helper()
	times := map[string]int{}
	for line := range strings.Lines(log) {
		if _, what, ok := strings.Cut(line, "msg="); ok {
			times[strings.TrimSpace(what)]++
		}
	}
	told := 0
	for what, n := range times {
		if strings.Contains(what, message) {
			told++
		}
		if strings.Contains(what, repaired) && n > 1 {
			t.Errorf("told %d times: %s", n, what)
		}
	}
	if told == 0 {
		t.Errorf("no %q in the log:\n%s", message, log)
	}
}

// The rulesets of firewalld and Docker stand beside ours, and come and go:
// nothing fails, nothing is doubled, and nobody's rules are touched (I6).
func TestOtherRulesetsBesideOurs(t *testing.T) {
	l := newCluster(t, lab.Options{Nodes: 3, Services: map[string]lab.Service{"web": web("sourceip-sourceport", "tcp/80")}})
	n := l.Node("n2")
	before, logged := standing(t, n), len(n.Log())
	w := watch(t, l)
	news, old := generate(t, l, steady(l)), generate(t, l, held(l))
	for _, add := range []func() error{
		func() error { return n.Firewall(webPort, 7440) },
		func() error { return n.Containers(8088) },
	} {
		if err := add(); err != nil {
			t.Fatal(err)
		}
		beside := standing(t, n)
		if err := news.AwaitMore(200, moveLimit); err != nil {
			t.Fatal(err)
		}
		if lost := missing(before, beside); len(lost) > 0 {
			t.Errorf("of ours is missing: %s", strings.Join(lost, "; "))
		}
		if lost := missing(beside, standing(t, n)); len(lost) > 0 {
			t.Errorf("of theirs is missing: %s", strings.Join(lost, "; "))
		}
	}
	t.Run("iptables-nft", func(t *testing.T) { iptablesBeside(t, n) })
	if err := news.AwaitMore(200, moveLimit); err != nil {
		t.Fatal(err)
	}
	noFailure(t, "new connections", finish(t, "new connections", news))
	noFailure(t, "held connections", finish(t, "held connections", old))
	answeredOnce(t, w, load.TCP)
	if log := n.Log()[logged:]; strings.Contains(log, "repaired") {
		t.Errorf("others' rules are taken for damage to ours:\n%s", log)
	}
	if lost := missing(before, standing(t, n)); len(lost) > 0 {
		t.Errorf("of ours is missing: %s", strings.Join(lost, "; "))
	}
}

// iptablesBeside adds rules as programs do that go by way of iptables.
func iptablesBeside(t *testing.T, n *lab.Node) {
	path, err := exec.LookPath("iptables-nft")
	if err != nil {
		t.Skip("iptables-nft is not installed")
	}
	for _, rule := range []string{
		"-t mangle -A PREROUTING -p tcp --dport 80 -m conntrack --ctstate NEW -j MARK --set-mark 7",
		"-t raw -A PREROUTING -p tcp --dport 81 -j DROP",
		"-t nat -A POSTROUTING -s 172.18.0.0/16 -j MASQUERADE",
		"-t mangle -F PREROUTING",
	} {
		r, err := n.Namespace.Run(t.Context(), lab.Command{Path: path, Args: strings.Fields(rule)})
		if err != nil || r.Code != 0 {
			t.Fatalf("iptables-nft %s: %v, status %d\n%s", rule, err, r.Code, r.Stderr)
		}
	}
}
