package e2e

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"earshot/e2e/lab"
)

// The exit statuses of the contract.
const (
	failed = 1
	misuse = 2
)

// badStart is a start of an agent that must be refused.
type badStart struct {
	name    string
	edit    func(config string) string      // of the good config file
	prepare func(t *testing.T, n *lab.Node) // of the machine
	command lab.Command                     // extra settings
	status  int
	says    []string // words of the message
}

// replace edits the config file.
func replace(old, with string) func(string) string {
	return func(config string) string { return strings.Replace(config, old, with, 1) }
}

// asIs is the good config file.
func asIs(config string) string { return config }

// badStarts are the refused starts of a single machine.
func badStarts() []badStart {
	return []badStart{
		{name: "unknown key", edit: replace("lease:", "leese:"), status: misuse, says: []string{"earshot.yaml", "leese", "unknown"}},
		{name: "unknown key of a service", edit: replace("hash:", "hush:"), status: misuse, says: []string{"earshot.yaml", "services.web.hush", "unknown"}},
		{name: "wrong type", edit: replace("buckets: 1024", "buckets: many"), status: misuse, says: []string{"services.web.buckets", "many"}},
		{name: "no yaml", edit: func(string) string { return "node: [n1\n" }, status: misuse, says: []string{"earshot.yaml"}},
		{name: "no prefix length", edit: replace("192.168.56.20/24", "192.168.56.20"), status: misuse, says: []string{"services.web.address", "prefix length"}},
		{name: "own address", edit: replace("192.168.56.20/24", "192.168.56.11/24"), status: misuse, says: []string{"services.web.address", "own"}},
		{name: "own second address", edit: replace("192.168.56.20/24", "192.168.56.77/24"), prepare: secondAddress, status: failed, says: []string{"192.168.56.77", "eth1"}},
		{name: "stranger's address", edit: replace("192.168.56.20/24", "192.168.56.101/24"), status: failed, says: []string{"192.168.56.101", "02:ea:38:00:00:65"}},
		{name: "missing interface", edit: replace("interface: eth1", "interface: eth9"), status: failed, says: []string{"eth9"}},
		{name: "no buckets", edit: replace("buckets: 1024", "buckets: 0"), status: misuse, says: []string{"services.web.buckets", "0", "65536"}},
		{name: "too many buckets", edit: replace("buckets: 1024", "buckets: 65537"), status: misuse, says: []string{"services.web.buckets", "65537"}},
		{name: "duplicate service", edit: duplicate, status: misuse, says: []string{"services.web2", "tcp/80"}},
		{name: "unknown hash", edit: replace("hash: sourceip", "hash: sauceip"), status: misuse, says: []string{"services.web.hash", "sauceip"}},
		{name: "readable key", edit: asIs, prepare: readableKey, status: failed, says: []string{"key file", "0644", "chmod"}},
		{name: "weak key", edit: asIs, prepare: weakKey, status: failed, says: []string{"key", "keygen"}},
		{name: "missing key", edit: asIs, prepare: missingKey, status: failed, says: []string{"key file", "no such file", "keygen"}},
		{name: "no privilege", edit: asIs, command: lab.Command{Unprivileged: true}, status: failed, says: []string{"root"}},
	}
}

// duplicate adds a service with the address and port of the first.
func duplicate(config string) string {
	head, first, _ := strings.Cut(config, "    web:\n")
	return head + "    web:\n" + first + "    web2:\n" + first
}

func secondAddress(t *testing.T, n *lab.Node) {
	if err := n.AddAddress("192.168.56.77/24"); err != nil {
		t.Fatal(err)
	}
}

func readableKey(t *testing.T, n *lab.Node) {
	if err := os.Chmod(n.Path("key"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func weakKey(t *testing.T, n *lab.Node) {
	if err := n.WriteKey("secret"); err != nil {
		t.Fatal(err)
	}
}

func missingKey(t *testing.T, n *lab.Node) {
	if err := os.Remove(n.Path("key")); err != nil {
		t.Fatal(err)
	}
}

// Bad input is refused with a message of its own and the right exit status,
// and changes nothing.
func TestBadStartsAreRefused(t *testing.T) {
	messages := map[string]string{}
	for _, c := range badStarts() {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, lab.Options{Nodes: 1, Services: map[string]lab.Service{"web": web("sourceip", "tcp/80")}})
			n := l.Nodes[0]
			good, err := n.Config.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			bad := c.edit(string(good))
			if c.prepare != nil {
				c.prepare(t, n)
			} else if bad == string(good) && !c.command.Unprivileged {
				t.Fatal("nothing is bad here")
			}
			message := refusedStart(t, n, bad, c.command, c.status)
			for _, word := range c.says {
				if !strings.Contains(message, word) {
					t.Errorf("no %q in the message:\n%s", word, message)
				}
			}
			if other, ok := messages[message]; ok {
				t.Errorf("the same message as for %s:\n%s", other, message)
			}
			messages[message] = c.name
		})
	}
}

// refusedStart starts an agent that must end by itself with the given status,
// and returns what it wrote. Nothing may have changed.
func refusedStart(t *testing.T, n *lab.Node, config string, c lab.Command, status int) string {
	t.Helper()
	if err := os.WriteFile(n.ConfigFile(), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, n)
	c.Path, c.Args = n.Bin(), []string{"agent", "--config", n.ConfigFile()}
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	r, err := n.Namespace.Run(ctx, c)
	if err != nil {
		t.Fatalf("the agent was not refused: %v", err)
	}
	if r.Code != status {
		t.Errorf("exit status %d, want %d", r.Code, status)
	}
	if after := snapshot(t, n); after != before {
		t.Errorf("the kernel was changed:\n%s", difference(before, after))
	}
	unchanged(t, n, config)
	t.Log(r.Stderr)
	return r.Stderr
}

// unchanged demands that the config file is as it was written.
func unchanged(t *testing.T, n *lab.Node, config string) {
	t.Helper()
	if text, err := os.ReadFile(n.ConfigFile()); err != nil || string(text) != config {
		t.Errorf("the config file was changed (%v):\n%s", err, text)
	}
}
