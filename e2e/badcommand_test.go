package e2e

import (
	"strings"
	"testing"

	"earshot/e2e/lab"
)

// badCommand is a command that must be refused by a running cluster.
type badCommand struct {
	args   []string
	status int
	says   []string // words of the message
}

// badCommands are asked of n1 in a cluster of n1 to n3.
func badCommands(n *lab.Node) []badCommand {
	return []badCommand{
		{[]string{"out", "n9"}, failed, []string{"n9"}},
		{[]string{"in", "n9"}, failed, []string{"n9"}},
		{[]string{"which", "nope", "192.0.2.1"}, failed, []string{"nope"}},
		{[]string{"which", "web", "tomorrow"}, misuse, []string{"tomorrow"}},
		{[]string{"which", "web"}, misuse, []string{"arg"}},
		{[]string{"move", "web", "1024", "n2"}, misuse, []string{"1024"}},
		{[]string{"move", "web", "x-y", "n2"}, misuse, []string{"x-y"}},
		{[]string{"move", "nope", "1", "n2"}, failed, []string{"nope"}},
		{[]string{"move", "web", "1", "n9"}, failed, []string{"n9"}},
		{[]string{"status", "--socket", "/nowhere/sock"}, failed, []string{"no agent", "/nowhere/sock"}},
		{[]string{"agent", "--config", n.ConfigFile()}, failed, []string{"already running"}},
		{[]string{"flush"}, failed, []string{"agent runs"}},
		{[]string{"status", "--jsno"}, misuse, []string{"--jsno"}},
		{[]string{"stauts"}, misuse, []string{"stauts", "status"}},
		{[]string{"agent", "--config", "/nowhere/earshot.yaml"}, misuse, []string{"/nowhere/earshot.yaml"}},
	}
}

// A command that makes no sense is refused, says why, and changes neither the
// map nor the kernel.
func TestBadCommandsAreRefused(t *testing.T) {
	l := newCluster(t, lab.Options{Nodes: 3, Services: map[string]lab.Service{"web": web("sourceip", "tcp/80")}})
	n := l.Nodes[0]
	epoch := ask(t, n).Cluster.Epoch
	before := withoutLease(snapshot(t, n))
	for _, c := range badCommands(n) {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			r, err := n.Run(c.args...)
			if err != nil {
				t.Fatal(err)
			}
			if r.Code != c.status || r.Stdout != "" {
				t.Errorf("exit status %d, want %d; standard output %q", r.Code, c.status, r.Stdout)
			}
			for _, word := range c.says {
				if !strings.Contains(r.Stderr, word) {
					t.Errorf("no %q in the message:\n%s", word, r.Stderr)
				}
			}
			t.Log(r.Stderr)
		})
	}
	if now := ask(t, n).Cluster.Epoch; now != epoch {
		t.Errorf("the map changed: epoch %d became %d", epoch, now)
	}
	if after := withoutLease(snapshot(t, n)); after != before {
		t.Errorf("the kernel was changed:\n%s", difference(before, after))
	}
}

// withoutLease leaves out what a running agent changes all the time: which of
// its two slots holds the lease, and the index that its log has come to.
func withoutLease(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "element ") || !strings.Contains(line, " earshot slot_") && !strings.Contains(line, " earshot held ") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// I7: a node with another key does not get in, and says so.
func TestAWrongKeyDoesNotGetIn(t *testing.T) {
	l := newCluster(t, lab.Options{Nodes: 3, Services: map[string]lab.Service{"web": web("sourceip", "tcp/80")}})
	n := stranger(t, l)
	key := strings.TrimSpace(command(t, n, "keygen", "-"))
	if err := n.WriteKey(key); err != nil {
		t.Fatal(err)
	}
	message := refusedStranger(t, n)
	if !strings.Contains(message, "key") {
		t.Errorf("no word of the key:\n%s", message)
	}
	insiders(t, l)
}

// Two nodes cannot have one name: the second is turned away, the first stays.
func TestASecondNodeOfOneNameDoesNotGetIn(t *testing.T) {
	l := newCluster(t, lab.Options{Nodes: 3, Services: map[string]lab.Service{"web": web("sourceip", "tcp/80")}})
	n := stranger(t, l)
	n.Config.Node = "n1"
	message := refusedStranger(t, n)
	if !strings.Contains(message, "n1") || !strings.Contains(message, "name") {
		t.Errorf("no word of the name:\n%s", message)
	}
	insiders(t, l)
}

// stranger adds a fourth host that the others have not heard of.
func stranger(t *testing.T, l *lab.Lab) *lab.Node {
	t.Helper()
	n, err := l.AddNode()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// refusedStranger starts its agent, which must end.
func refusedStranger(t *testing.T, n *lab.Node) string {
	t.Helper()
	config, err := n.Config.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return refusedStart(t, n, string(config), lab.Command{}, failed)
}

// insiders demands that the cluster is the three that it was.
func insiders(t *testing.T, l *lab.Lab) {
	t.Helper()
	s := ask(t, l.Nodes[0])
	if len(s.Nodes) != 3 || s.node("n1").Listen != l.Nodes[0].Address() || !s.node("n1").Alive {
		t.Errorf("nodes: %+v", s.Nodes)
	}
}
