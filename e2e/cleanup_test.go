package e2e

import (
	"strings"
	"testing"

	"earshot/e2e/lab"
)

// snapshot is what a node's kernel holds.
func snapshot(t *testing.T, n *lab.Node) string {
	t.Helper()
	text, err := n.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// I6: the agents put something into the kernel; after they are stopped,
// `earshot flush` leaves it as it was before they came.
func TestFlushLeavesNoTrace(t *testing.T) {
	l := newLab(t, lab.Options{Nodes: 3, Services: webAndEcho("sourceip")})
	var before []string
	for _, n := range l.Nodes {
		before = append(before, snapshot(t, n))
	}
	if err := l.StartAll(); err != nil {
		t.Fatal(err)
	}
	whole(t, l, formLimit)
	for i, n := range l.Nodes {
		during := snapshot(t, n)
		for _, trace := range []string{"table netdev earshot", "table inet earshot", "table arp earshot", "address eth1 " + serviceAddr.String()} {
			if strings.Contains(before[i], trace) || !strings.Contains(during, trace) {
				t.Errorf("%s: no %q while the agent runs", n.Name, trace)
			}
		}
		if err := n.Stop(); err != nil {
			t.Fatal(err)
		}
		t.Log(command(t, n, "flush"))
		if left := difference(before[i], snapshot(t, n)); left != "" {
			t.Errorf("%s: flush left\n%s", n.Name, left)
		}
		if text := command(t, n, "flush"); !strings.Contains(text, "nothing") {
			t.Errorf("second flush on %s: %q", n.Name, text)
		}
	}
}

// difference lists the lines that are in one snapshot only.
func difference(before, after string) string {
	var out strings.Builder
	report := func(sign, a, b string) {
		have := map[string]bool{}
		for line := range strings.Lines(b) {
			have[line] = true
		}
		for line := range strings.Lines(a) {
			if !have[line] {
				out.WriteString(sign + line)
			}
		}
	}
	report("-", before, after)
	report("+", after, before)
	return out.String()
}
