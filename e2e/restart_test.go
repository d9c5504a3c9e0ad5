package e2e

import (
	"fmt"
	"slices"
	"testing"

	"earshot/e2e/lab"
	"earshot/e2e/load"
)

// three is the cluster of these stories.
func three(t *testing.T) *lab.Lab {
	t.Helper()
	return newCluster(t, lab.Options{Nodes: 3, Services: map[string]lab.Service{"web": web("sourceip-sourceport", "tcp/80")}})
}

// answersAll demands that a thousand clients are answered, once each.
func answersAll(t *testing.T, l *lab.Lab) {
	t.Helper()
	w := watch(t, l)
	complete(t, l, thousand(l, load.HTTP, webPort))
	everyNode(t, l, answeredOnce(t, w, load.TCP))
}

// I5: all agents are killed at once and started again. The map is the same,
// buckets that were moved by hand included.
func TestKillingEverythingLosesNothing(t *testing.T) {
	l := three(t)
	command(t, l.Nodes[0], "move", "web", "0-9", "n3")
	lab.Eventually(t, moveLimit, "move by hand", func() error {
		s, err := statusOf(l.Nodes[0])
		if err != nil {
			return err
		}
		owners, err := s.service("web").owners()
		for b := 0; err == nil && b < 10; b++ {
			if owners[b] != "n3" {
				err = fmt.Errorf("bucket %d is with %s", b, owners[b])
			}
		}
		return err
	})
	before := ownersOf(t, l.Nodes[0], "web")
	seed := ask(t, l.Nodes[0]).service("web").Seed
	if err := l.KillAll(); err != nil {
		t.Fatal(err)
	}
	if err := l.StartAll(); err != nil {
		t.Fatal(err)
	}
	t.Logf("whole again after %v", whole(t, l, formLimit))
	after := ownersOf(t, l.Nodes[1], "web")
	if !slices.Equal(before, after) {
		t.Errorf("the map changed:\n%v\n%v", before, after)
	}
	if now := ask(t, l.Nodes[1]).service("web").Seed; now != seed {
		t.Errorf("the seed changed from %d to %d", seed, now)
	}
	answersAll(t, l)
}

// P9: a node whose disk was wiped joins again under its name, as nobody else.
func TestAWipedNodeJoinsAgain(t *testing.T) {
	l := three(t)
	n := l.Nodes[2]
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := n.Wipe(); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	t.Logf("whole again after %v", whole(t, l, formLimit))
	if got := ask(t, l.Nodes[0]).node(n.Name); got.Listen != n.Address() {
		t.Errorf("%s listens at %s, not at %s", n.Name, got.Listen, n.Address())
	}
	answersAll(t, l)
}

// The agents are stopped and started again one after another under load. No
// request fails: the kernel goes on answering meanwhile.
func TestRollingRestartFailsNoRequest(t *testing.T) {
	l := three(t)
	w := watch(t, l)
	news, open := generate(t, l, steady(l)), generate(t, l, held(l))
	for _, n := range l.Nodes {
		wait(t, news)
		if err := n.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
		if err := n.AwaitReady(formLimit); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s restarted, whole after %v", n.Name, whole(t, l, formLimit))
	}
	wait(t, news)
	noFailure(t, "new connections", finish(t, "new connections", news))
	noFailure(t, "open connections", finish(t, "open connections", open))
	if v := answeredOnce(t, w, load.TCP); v.Unanswered > 0 {
		t.Errorf("%d SYNs never answered", v.Unanswered)
	}
}
