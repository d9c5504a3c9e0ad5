package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"earshot/e2e/lab"
	"earshot/e2e/load"
	"earshot/hashmode"
)

// snoopLimit is the time in which a bridge that snoops, and has a querier,
// stops bringing frames to all: 10 s after its first question.
const snoopLimit = time.Minute

// checked is what `earshot check --json` prints.
type checked struct {
	Agent    bool
	Findings []finding
}

type finding struct{ Severity, Node, Service, What, Mend, Note string }

// examine runs `earshot check --json` on a node and returns what it found, and
// its exit status.
func examine(t *testing.T, n *lab.Node) (checked, int) {
	t.Helper()
	r, err := n.Run("check", "--json", "--config", n.ConfigFile())
	if err != nil {
		t.Fatal(err)
	}
	var c checked
	if err := json.Unmarshal([]byte(r.Stdout), &c); err != nil {
		t.Fatalf("exit status %d, %v: %s%s", r.Code, err, r.Stdout, r.Stderr)
	}
	return c, r.Code
}

// failures are the findings with which the service cannot work.
func (c checked) failures() (failed []finding) {
	for _, f := range c.Findings {
		if f.Severity == "fail" {
			failed = append(failed, f)
		}
	}
	return failed
}

// says reports whether a finding of the severity has the words in it.
func (c checked) says(severity, words string) bool {
	return slices.ContainsFunc(c.Findings, func(f finding) bool {
		return f.Severity == severity && strings.Contains(f.What, words)
	})
}

// content waits until the doctor finds that frames reach every node, and
// nothing wrong.
func content(t *testing.T, n *lab.Node) checked {
	t.Helper()
	var last checked
	lab.Eventually(t, snoopLimit, "the doctor is content", func() error {
		c, code := examine(t, n)
		if last = c; code != 0 || len(c.failures()) > 0 || !c.says("ok", "reach every node (n1, n2, n3)") {
			return fmt.Errorf("exit status %d: %+v", code, c.Findings)
		}
		return nil
	})
	return last
}

// snooped is a cluster whose bridge snoops, with a querier that makes it act on
// that: no client's frame arrives any more, and the doctor says so.
func snooped(t *testing.T) (l *lab.Lab, failed []finding) {
	l = newCluster(t, lab.Options{Nodes: 3, Snooping: true, Services: webAndEcho(string(hashmode.SourceIP))})
	lab.Eventually(t, snoopLimit, "the doctor finds that the nodes do not hear", func() error {
		c, code := examine(t, l.Nodes[0])
		if failed = c.failures(); code != 1 || len(failed) == 0 || !c.Agent {
			return fmt.Errorf("exit status %d: %+v", code, c.Findings)
		}
		if !c.says("ok", "a querier asks for group members") {
			return fmt.Errorf("no querier heard: %+v", c.Findings)
		}
		return nil
	})
	return l, failed
}

// atTheBridge carries a command out where the bridge is.
func atTheBridge(t *testing.T, l *lab.Lab, words ...string) {
	t.Helper()
	path, err := exec.LookPath(words[0])
	if err != nil {
		t.Skip(words[0] + "(8) is not installed: the doctor's command cannot be carried out")
	}
	r, err := l.Service.Run(context.Background(), lab.Command{Path: path, Args: words[1:]})
	if err != nil || r.Code != 0 {
		t.Fatalf("%s: %v, %s", words, err, r.Stderr)
	}
}

// The doctor names the knob of a bridge that snoops; with its command carried
// out, it is content, and clients are answered.
func TestDoctorNamesTheBridgeThatSnoops(t *testing.T) {
	longStory(t)
	l, failed := snooped(t)
	for _, f := range failed {
		t.Logf("%s: %s\n  mend: %s (%s)", f.Node, f.What, f.Mend, f.Note)
		if !strings.HasPrefix(f.Mend, "ip link set dev BRIDGE ") || !strings.Contains(f.What, "snoops") {
			t.Fatalf("the doctor does not name the knob: %+v", f)
		}
	}
	atTheBridge(t, l, strings.Fields(strings.ReplaceAll(failed[0].Mend, "BRIDGE", l.Service.Name))...)
	content(t, l.Nodes[0])
	complete(t, l, thousand(l, load.HTTP, webPort))
}

// The other way that the doctor names: the nodes' ports lead to a router.
func TestDoctorsOtherCommandMendsSnoopingToo(t *testing.T) {
	longStory(t)
	l, _ := snooped(t)
	for _, n := range l.Nodes {
		atTheBridge(t, l, "bridge", "link", "set", "dev", n.Port.Outlet(), "mcast_router", "2")
	}
	content(t, l.Nodes[0])
	complete(t, l, thousand(l, load.HTTP, webPort))
}

// With a stealth MAC, snooping is nothing to the doctor.
func TestDoctorIsContentWithAStealthMAC(t *testing.T) {
	stealthy := web(string(hashmode.SourceIP), "tcp/80")
	stealthy.MACMode = "stealth"
	l := newCluster(t, lab.Options{Nodes: 3, Snooping: true, Services: map[string]lab.Service{"web": stealthy}})
	for _, n := range l.Nodes {
		content(t, n)
	}
}

// A node that is cut off from the service's segment is found, and the others
// are not blamed. The examination disturbs nobody.
func TestDoctorFindsTheNodeThatHearsNothing(t *testing.T) {
	l := newCluster(t, lab.Options{Nodes: 3, Apart: true, Services: webAndEcho(string(hashmode.SourceIP))})
	before := content(t, l.Nodes[0])
	if !before.says("ok", "no querier asked") {
		t.Errorf("a querier where there is none: %+v", before.Findings)
	}
	deafen(t, l, l.Nodes[2])
	c, code := examine(t, l.Nodes[0])
	if code != 1 || !slices.ContainsFunc(c.failures(), func(f finding) bool { return f.Node == "n3" && strings.Contains(f.What, "no other node hears") }) {
		t.Fatalf("exit status %d: %+v", code, c.Findings)
	}
	for _, f := range c.failures() {
		if f.Node != "n3" {
			t.Errorf("%s is blamed: %+v", f.Node, f)
		}
	}
}

// deafen loses all frames between a node and the others on the service's
// segment; its carrier stays.
func deafen(t *testing.T, l *lab.Lab, deaf *lab.Node) {
	t.Helper()
	for _, n := range l.Nodes {
		if n == deaf {
			continue
		}
		if err := l.Sever(n.Port, deaf.Port); err != nil {
			t.Fatal(err)
		}
	}
}

// A client, or router, that has learned one node's own MAC is named, and the
// command given would teach it the right one.
func TestDoctorFindsAWrongARPEntry(t *testing.T) {
	longStory(t)
	l := newCluster(t, lab.Options{Nodes: 3, Services: webAndEcho(string(hashmode.SourceIP))})
	c := l.Clients[0]
	err := c.Do(func() error {
		link, err := netlink.LinkByName(c.Port.Device)
		if err != nil {
			return err
		}
		return netlink.NeighSet(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, IP: serviceAddr.AsSlice(), HardwareAddr: l.Nodes[1].Port.MAC, State: netlink.NUD_PERMANENT,
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	g := generate(t, l, load.Plan{
		Kind: load.UDP, Target: netip.AddrPortFrom(serviceAddr, echoPort), Sources: c.SourceList(100), Rate: 100,
	})
	defer func() { _, _ = g.Stop() }()
	lab.Eventually(t, snoopLimit, "the doctor finds the client", func() error {
		found, _ := examine(t, l.Nodes[0])
		for _, f := range found.failures() {
			if strings.Contains(f.What, c.Port.MAC.String()+" sends frames for 192.168.56.20 to "+l.Nodes[1].Port.MAC.String()) &&
				strings.HasPrefix(f.Mend, "ip neigh replace 192.168.56.20 lladdr 01:00:5e:28:38:14 ") {
				return nil
			}
		}
		return fmt.Errorf("%+v", found.Findings)
	})
}
