package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"earshot/e2e/lab"
	"earshot/e2e/load"
)

// becomes waits until a node's status is as wanted.
func becomes(t *testing.T, limit time.Duration, n *lab.Node, what string, wanted func(status) error) {
	t.Helper()
	took := lab.Eventually(t, limit, what, func() error {
		s, err := statusOf(n)
		if err != nil {
			return err
		}
		return wanted(s)
	})
	t.Logf("%s after %v", what, took)
}

// refusedCommand runs an earshot command that must fail, and returns what it says.
func refusedCommand(t *testing.T, n *lab.Node, args ...string) string {
	t.Helper()
	r, err := n.Run(args...)
	if err != nil {
		t.Fatal(err)
	}
	if r.Code == 0 {
		t.Errorf("earshot %q on %s: not refused\n%s", args, n.Name, r.Stdout)
	}
	return r.Stderr
}

// endsSaying starts a node's agent, which must end with these words.
func endsSaying(t *testing.T, n *lab.Node, words ...string) {
	t.Helper()
	before := len(n.Log())
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, formLimit, "end of the agent of "+n.Name, func() error {
		if n.Running() {
			return errors.New("it runs")
		}
		return nil
	})
	said := n.Log()[before:]
	for _, w := range words {
		if !strings.Contains(said, w) {
			t.Errorf("%s ends without a word of %q:\n%s", n.Name, w, said)
		}
	}
}

// alone demands that one node owns every bucket.
func alone(n *lab.Node) func(status) error {
	return func(s status) error {
		owners, err := s.service("web").owners()
		if err == nil && (len(owners) == 0 || slices.ContainsFunc(owners, func(o string) bool { return o != n.Name })) {
			err = fmt.Errorf("%s does not own everything", n.Name)
		}
		return err
	}
}

// A node that never comes back is forgotten, and told so if it does.
func TestForgottenNodeComesBackAsANewOneOnly(t *testing.T) {
	l := three(t)
	operator, gone := l.Nodes[0], l.Nodes[2]
	if text := refusedCommand(t, operator, "forget", gone.Name); !strings.Contains(text, "alive") || !strings.Contains(text, "hint: stop its agent") {
		t.Errorf("forget a living node:\n%s", text)
	}
	if err := gone.Kill(); err != nil {
		t.Fatal(err)
	}
	becomes(t, moveLimit, operator, "death of "+gone.Name, func(s status) error {
		if got := s.node(gone.Name).State; got != "failed" {
			return errors.New(got)
		}
		return nil
	})
	command(t, l.Nodes[1], "forget", gone.Name) // any node takes any command
	becomes(t, moveLimit, operator, "a cluster of two", func(s status) error {
		if len(s.Nodes) != 2 {
			return fmt.Errorf("%d nodes", len(s.Nodes))
		}
		return nil
	})
	if text := command(t, operator, "status"); !strings.Contains(text, "two voters") {
		t.Errorf("no warning of two voters:\n%s", text)
	}
	endsSaying(t, gone, "forgotten", "hint: its data directory is of no use any more")
	if err := gone.Wipe(); err != nil {
		t.Fatal(err)
	}
	if err := gone.Start(); err != nil {
		t.Fatal(err)
	}
	t.Logf("whole again after %v", whole(t, l, formLimit))
	answersAll(t, l)
}

// A witness needs no privilege, no service and no kernel, and keeps two nodes
// answering when one of them dies.
func TestWitnessKeepsTwoNodesACluster(t *testing.T) {
	l := newLab(t, lab.Options{Nodes: 3, Services: map[string]lab.Service{"web": web("sourceip-sourceport", "tcp/80")}})
	n1, n2, witness := l.Nodes[0], l.Nodes[1], l.Nodes[2]
	witness.Config.Role, witness.Config.Services = "witness", nil
	if err := errors.Join(witness.WriteConfig(), n1.Start(), n2.Start()); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, witness)
	_, err := witness.Namespace.Start(lab.Command{
		Path: witness.Bin(), Args: []string{"agent", "--config", witness.ConfigFile()}, Unprivileged: true, Log: witness.Path("log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	becomes(t, formLimit, n1, "two nodes and a witness", func(s status) error {
		w := s.node(witness.Name)
		if !w.Voter || !w.Alive || w.LeaseMS != 0 || w.State != "in" {
			return fmt.Errorf("witness: %+v", w)
		}
		for _, n := range []*lab.Node{n1, n2} {
			if s.service("web").owned(n.Name) != 512 || s.node(n.Name).LeaseMS == 0 {
				return fmt.Errorf("%+v owns %d", s.node(n.Name), s.service("web").owned(n.Name))
			}
		}
		return nil
	})
	if text := command(t, n1, "status", "--json"); !strings.Contains(text, `"role": "witness"`) {
		t.Errorf("no witness in the status:\n%s", text)
	}
	for _, args := range [][]string{{"out", witness.Name}, {"in", witness.Name}, {"move", "web", "0", witness.Name}} {
		if text := refusedCommand(t, n1, args...); !strings.Contains(text, "a witness votes and never answers") {
			t.Errorf("earshot %q: %s", args, text)
		}
	}
	if err := n2.Kill(); err != nil {
		t.Fatal(err)
	}
	becomes(t, moveLimit, n1, "everything with "+n1.Name, alone(n1))
	complete(t, l, thousand(l, load.HTTP, webPort))
	if after := snapshot(t, witness); after != before {
		t.Errorf("the witness changed its kernel:\n%s", difference(before, after))
	}
	if err := n2.Start(); err != nil {
		t.Fatal(err)
	}
	becomes(t, formLimit, n1, n2.Name+" back", func(s status) error {
		if own := s.service("web").owned(n2.Name); own != 512 {
			return fmt.Errorf("it owns %d", own)
		}
		return nil
	})
}

// Two of three are lost for good: the third goes on alone, and answers for
// everything. Nobody comes back with an old disk.
func TestRecoverWhenTheMajorityIsLost(t *testing.T) {
	l := three(t)
	survivor := l.Nodes[0]
	command(t, survivor, "move", "web", "0-9", survivor.Name)
	for _, n := range l.Nodes[1:] {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	config := survivor.ConfigFile()
	if text := refusedCommand(t, survivor, "recover", "--config", config, "--yes"); !strings.Contains(text, "already running") || !strings.Contains(text, "hint: stop it first") {
		t.Errorf("recover while the agent runs:\n%s", text)
	}
	if err := survivor.Stop(); err != nil {
		t.Fatal(err)
	}
	if text := refusedCommand(t, survivor, "recover", "--config", config); !strings.Contains(text, "--yes") {
		t.Errorf("recover without anybody to ask:\n%s", text)
	}
	text := command(t, survivor, "recover", "--config", config, "--yes")
	t.Log(text)
	for _, want := range []string{"n1 (this one)", "n2 at 192.168.56.12:7440", "voters    3", "web 192.168.56.20", "never again with their old data_dir"} {
		if !strings.Contains(text, want) {
			t.Errorf("no word of %q", want)
		}
	}
	if err := survivor.Start(); err != nil {
		t.Fatal(err)
	}
	becomes(t, formLimit, survivor, "everything with the survivor", alone(survivor))
	complete(t, l, thousand(l, load.HTTP, webPort))

	old, lost := l.Nodes[1], l.Nodes[2]
	endsSaying(t, old, "recovered on another node", "hint: its data directory is of no use any more")
	for _, n := range []*lab.Node{old, lost} {
		if err := errors.Join(n.Wipe(), n.Start()); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("whole again after %v", whole(t, l, formLimit))
	answersAll(t, l)
}

// voteMoves is how long a voter is waited for before its vote moves, and what
// a busy machine may take beyond that.
const voteMoves = 2 * time.Minute

// shortLease is the default of the product: how long a voter is waited for
// goes by the lease.
const shortLease = 300 * time.Millisecond

// Of six nodes five vote. When one of those is gone for long, the sixth does.
func TestAVoteMovesFromANodeThatIsGone(t *testing.T) {
	longStory(t)
	l := newCluster(t, lab.Options{Nodes: 6, Lease: shortLease, Services: map[string]lab.Service{"web": web("sourceip", "tcp/80")}})
	s := ask(t, l.Nodes[0])
	var gone, heir, operator *lab.Node
	for _, n := range l.Nodes {
		switch got := s.node(n.Name); {
		case !got.Voter:
			heir = n
		case n.Name == s.Cluster.Leader:
			operator = n
		default:
			gone = n
		}
	}
	if heir == nil {
		t.Fatalf("all six vote: %+v", s.Nodes)
	}
	if err := gone.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	becomes(t, voteMoves, operator, "the vote of "+gone.Name+" with "+heir.Name, func(s status) error {
		if s.node(gone.Name).Voter || !s.node(heir.Name).Voter {
			return fmt.Errorf("%+v, %+v", s.node(gone.Name), s.node(heir.Name))
		}
		return nil
	})
	if took := time.Since(killed); took < time.Minute {
		t.Errorf("the vote moved after %v already", took)
	}
	if err := gone.Start(); err != nil {
		t.Fatal(err)
	}
	whole(t, l, formLimit)
	if voters := len(slices.DeleteFunc(ask(t, operator).Nodes, func(n nodeStatus) bool { return !n.Voter })); voters != 5 {
		t.Errorf("%d voters when %s is back", voters, gone.Name)
	}
}
