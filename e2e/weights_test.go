package e2e

import (
	"fmt"
	"os"
	"testing"

	"earshot/e2e/lab"
	"earshot/e2e/load"
)

// weigh writes the file that a node's weight is read from.
func weigh(t *testing.T, n *lab.Node, text string) {
	t.Helper()
	if err := os.WriteFile(n.Path("weight"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// byWeight waits until every node has its share by these weights, which differ
// from the exact ones by less than a bucket.
func byWeight(t *testing.T, l *lab.Lab, weights ...int) {
	t.Helper()
	total := 0
	for _, w := range weights {
		total += w
	}
	lab.Eventually(t, moveLimit, fmt.Sprint("shares by weights ", weights), func() error {
		s, err := statusOf(l.Nodes[0])
		if err != nil {
			return err
		}
		web := s.service("web")
		if _, err := web.owners(); err != nil {
			return err
		}
		for i, n := range l.Nodes {
			if got := s.node(n.Name).Weight; got != weights[i] {
				return fmt.Errorf("%s has weight %d, not %d", n.Name, got, weights[i])
			}
			if d := web.owned(n.Name)*total - web.Buckets*weights[i]; d <= -total || d >= total {
				return fmt.Errorf("%s owns %d of %d buckets", n.Name, web.owned(n.Name), web.Buckets)
			}
		}
		return nil
	})
}

// The weight of a node is what a file says: the shares follow, under load and
// without breaking anything. What is no weight changes nothing and is told.
// With weight 0 a node has buckets only while nobody else can have them.
func TestWeightsFollowTheirFiles(t *testing.T) {
	l := newLab(t, lab.Options{Nodes: 3, Services: map[string]lab.Service{"web": web("sourceip-sourceport", "tcp/80")}})
	for i, n := range l.Nodes {
		n.Config.Weight = "file:" + n.Path("weight")
		weigh(t, n, fmt.Sprintln(i+1))
	}
	if err := l.StartAll(); err != nil {
		t.Fatal(err)
	}
	whole(t, l, formLimit)
	byWeight(t, l, 1, 2, 3)

	w := watch(t, l)
	news, open := generate(t, l, steady(l)), generate(t, l, held(l))
	wait(t, news)
	weigh(t, l.Nodes[0], "4")
	byWeight(t, l, 4, 2, 3)
	wait(t, news)

	weigh(t, l.Nodes[0], "heavy")
	lab.Eventually(t, moveLimit, "the bad weight shows", func() error {
		for _, p := range ask(t, l.Nodes[1]).node("n1").Problems {
			if p == fmt.Sprintf(`weight: %s: "heavy" is no weight (0 to 1000)`, l.Nodes[0].Path("weight")) {
				return nil
			}
		}
		return fmt.Errorf("problems of n1: %q", ask(t, l.Nodes[1]).node("n1").Problems)
	})
	byWeight(t, l, 4, 2, 3)

	weigh(t, l.Nodes[0], "0\n")
	byWeight(t, l, 0, 2, 3)
	wait(t, news)
	noFailure(t, "new connections", finish(t, "new connections", news))
	noFailure(t, "open connections", finish(t, "open connections", open))
	answeredOnce(t, w, load.TCP)

	for _, n := range l.Nodes[1:] {
		command(t, l.Nodes[0], "out", n.Name)
	}
	shareBecomes(t, l.Nodes[0], "n1", func(own int) bool { return own == 1024 })
	command(t, l.Nodes[0], "in", "n3")
	shareBecomes(t, l.Nodes[0], "n1", func(own int) bool { return own == 0 })
}
