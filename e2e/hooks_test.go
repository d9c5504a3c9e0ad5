package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"

	"earshot/e2e/lab"
)

// eventLine is what `earshot events --json` promises. It is written out here on
// purpose: a renamed field must fail a test.
type eventLine struct {
	Seq     uint64    `json:"seq"`
	Time    time.Time `json:"time"`
	Event   string    `json:"event"`
	By      string    `json:"by"`
	Node    string    `json:"node"`
	Service string    `json:"service"`
	Buckets string    `json:"buckets"`
	Count   int       `json:"count"`
}

// String is the event without what differs from run to run.
func (e eventLine) String() string {
	return strings.TrimSpace(strings.Join([]string{e.Event, e.Node, e.Service}, " "))
}

// listen runs `earshot events --json` on a node; the function returns what it
// has said so far.
func listen(t *testing.T, n *lab.Node) func() []eventLine {
	t.Helper()
	file := filepath.Join(t.TempDir(), "events")
	p, err := n.Namespace.Start(lab.Command{
		Path: n.Bin(), Args: []string{"events", "--json"}, Env: []string{"EARSHOT_SOCKET=" + n.Path("sock")}, Log: file,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Kill() })
	return func() []eventLine {
		text, _ := os.ReadFile(file)
		var all []eventLine
		for _, line := range strings.SplitAfter(string(text), "\n") {
			var e eventLine
			if strings.HasSuffix(line, "\n") && json.Unmarshal([]byte(line), &e) == nil {
				all = append(all, e)
			}
		}
		return all
	}
}

// told waits until all of the words are among the events.
func told(t *testing.T, events func() []eventLine, words ...string) {
	t.Helper()
	lab.Eventually(t, moveLimit, "events "+strings.Join(words, ", "), func() error {
		var all []string
		for _, e := range events() {
			all = append(all, e.String())
		}
		for _, w := range words {
			if !slices.Contains(all, w) {
				return fmt.Errorf("%q is not among %q", w, all)
			}
		}
		return nil
	})
}

// lines waits until a file has the line, and returns the whole file.
func lines(t *testing.T, file, line string) string {
	t.Helper()
	var text []byte
	lab.Eventually(t, moveLimit, "line "+line+" in "+filepath.Base(file), func() error {
		text, _ = os.ReadFile(file)
		if !slices.Contains(strings.Split(string(text), "\n"), line) {
			return fmt.Errorf("it has %q", text)
		}
		return nil
	})
	return string(text)
}

// A cluster's life as its events tell it, and as its hooks do: a node goes and
// comes, one is killed, rules are deleted. The config is changed meanwhile, once
// into nonsense. A hook that hangs keeps no bucket from its next owner.
func TestEventsHooksAndReload(t *testing.T) {
	l := newLab(t, lab.Options{Nodes: 3, Services: map[string]lab.Service{"web": web("sourceip", "tcp/80")}})
	n1, n2, n3 := l.Nodes[0], l.Nodes[1], l.Nodes[2]
	out := func(n *lab.Node, name string) string { return n.Path("hook-" + name) }
	for _, n := range l.Nodes {
		n.Config.Watch = n == n2
		n.Config.Hooks = map[string]string{
			"on_gain": fmt.Sprintf(`sh -c "echo \$EARSHOT_NODE \$EARSHOT_SERVICE >>%s; cut -d' ' -f41 /proc/self/stat >>%s; sleep 1000"`, out(n, "gain"), out(n, "class")),
			"on_fail": fmt.Sprintf(`sh -c "echo \$EARSHOT_SELF sees \$EARSHOT_NODE fail >>%s"`, out(n, "fail")),
		}
	}
	if err := l.StartAll(); err != nil {
		t.Fatal(err)
	}
	whole(t, l, formLimit)
	events := listen(t, n1)
	// What the listener does not hear any more is not asked for: until it
	// listens, the config is read again and again.
	lab.Eventually(t, moveLimit, "the listener listens", func() error {
		command(t, n1, "reload")
		if len(events()) == 0 {
			return fmt.Errorf("it has heard nothing")
		}
		return nil
	})

	// A node that goes just after it came has not opened, and loses nothing.
	lab.Eventually(t, moveLimit, "the cluster's first moves are over", func() error {
		for _, v := range ask(t, n1).Services {
			for _, n := range v.Nodes {
				if n.Drain != "" {
					return fmt.Errorf("%s drains %s", n.Name, n.Drain)
				}
			}
		}
		return nil
	})
	command(t, n1, "out", "n3")
	told(t, events, "out n3", "lose n3 web", "gain n1 web", "gain n2 web", "drained n3 web")
	command(t, n1, "in", "n3")
	told(t, events, "in n3", "gain n3 web", "lose n1 web")
	lines(t, out(n3, "gain"), "n3 web")
	if class := lines(t, out(n3, "class"), "0"); strings.Contains(class, "2") {
		t.Errorf("the hook runs in scheduling class %q", class)
	}

	// A hook hangs on every node: nothing waits for it.
	if err := n3.Kill(); err != nil {
		t.Fatal(err)
	}
	told(t, events, "fail n3")
	shareBecomes(t, n1, "n3", func(own int) bool { return own == 0 })
	lines(t, out(n1, "fail"), "n1 sees n3 fail")
	lines(t, out(n2, "fail"), "n2 sees n3 fail")
	if err := n3.Start(); err != nil {
		t.Fatal(err)
	}
	told(t, events, "back n3")
	whole(t, l, formLimit)

	// Another hook, by the command and by the watch over the file.
	for _, n := range []*lab.Node{n1, n2} {
		n.Config.Hooks = map[string]string{"on_out": fmt.Sprintf(`sh -c "echo \$EARSHOT_SELF sees \$EARSHOT_NODE out >>%s"`, out(n, "out"))}
		n.Config.Lease *= 2
		if err := n.WriteConfig(); err != nil {
			t.Fatal(err)
		}
	}
	if said := command(t, n1, "reload"); !strings.Contains(said, "in effect: hooks\n") || !strings.Contains(said, "needs a restart of the agent: lease\n") {
		t.Errorf("reload says %q", said)
	}
	inStatus(t, n1, "n2: the config's lease needs a restart", true)
	command(t, n1, "out", "n3")
	lines(t, out(n1, "out"), "n1 sees n3 out")
	lines(t, out(n2, "out"), "n2 sees n3 out")

	// Nonsense changes nothing, and says so.
	for _, n := range []*lab.Node{n1, n2} {
		if err := os.WriteFile(n.ConfigFile(), []byte("lease: soon\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := n1.Run("reload"); err != nil || r.Code != 2 || !strings.Contains(r.Stderr, `"soon" is no duration`) {
		t.Errorf("nonsense: %+v, %v", r, err)
	}
	inStatus(t, n1, "n1: the config was changed and is refused", true)
	inStatus(t, n1, "n2: the config was changed and is refused", true)
	if err := n1.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	if err := n1.Agent().Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	inStatus(t, n1, "n1: the config was changed and is refused", false)

	deleteTables(t, n1)
	told(t, events, "repair n1")
	for i, e := range events() {
		if e.By != "n1" || e.Time.IsZero() || i > 0 && e.Seq != events()[i-1].Seq+1 {
			t.Errorf("event %d: %+v", i, e)
		}
	}
}

// inStatus waits until the words are in a node's status, or not any more.
func inStatus(t *testing.T, n *lab.Node, words string, want bool) {
	t.Helper()
	lab.Eventually(t, moveLimit, "words in the status", func() error {
		if got := strings.Contains(command(t, n, "status"), words); got != want {
			return fmt.Errorf("%q in the status: %v", words, got)
		}
		return nil
	})
}

// deleteTables deletes all rules of a node, as a firewall's reload does.
func deleteTables(t *testing.T, n *lab.Node) {
	t.Helper()
	err := n.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		c.FlushRuleset()
		return c.Flush()
	})
	if err != nil {
		t.Fatal(err)
	}
}
