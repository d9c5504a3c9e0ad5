package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"earshot/e2e/lab"
	"earshot/e2e/load"
	"earshot/hashmode"
)

// holdLimit is how long after its time a hold may end on a busy machine.
const holdLimit = 30 * time.Second

// formed waits until the first formation of the cluster is over: newcomers
// prove themselves from then on.
func formed(t *testing.T, l *lab.Lab) {
	t.Helper()
	lab.Eventually(t, holdLimit, "the cluster has formed", func() error {
		for _, n := range l.Nodes {
			if strings.Contains(n.Log(), "the cluster has formed") {
				return nil
			}
		}
		return errors.New("not yet")
	})
}

// A node fails and returns again and again. Each time it is kept out twice as
// long, and the status says until when; meanwhile the others serve all. The
// operator can let it in.
func TestAFlappingNodeIsKeptOutLongerEachTime(t *testing.T) {
	longStory(t)
	l := newLab(t, lab.Options{Nodes: 3, Services: map[string]lab.Service{"web": web("sourceip-sourceport", "tcp/80")}})
	for _, n := range l.Nodes {
		n.Config.Mature = "2s"
	}
	if err := l.StartAll(); err != nil {
		t.Fatal(err)
	}
	whole(t, l, formLimit)
	formed(t, l)
	n, operator := l.Nodes[2], l.Nodes[0]
	for i, hold := range []time.Duration{2, 4, 8} {
		hold *= time.Second
		failAndReturn(t, operator, n, i+1)
		var until time.Time
		lab.Eventually(t, holdLimit, "the hold shows", func() error {
			now := ask(t, operator)
			node, share := now.node(n.Name), shareOf(now, n.Name)
			if node.HeldUntil == "" || node.HeldMS <= 0 {
				return fmt.Errorf("%+v", node)
			}
			if node.HeldMS > hold.Milliseconds() || share.Own != "" || share.Why == "" || share.HeldUntil != node.HeldUntil {
				t.Fatalf("failure %d: %+v, %+v", i+1, node, share)
			}
			var err error
			until, err = time.Parse(time.RFC3339, node.HeldUntil)
			return err
		})
		if i == 0 {
			text := command(t, operator, "status")
			if !strings.Contains(text, n.Name+" is held until ") || !strings.Contains(text, "failed once lately") {
				t.Errorf("the status does not say so:\n%s", text)
			}
		}
		whole(t, l, holdLimit)
		// The status has whole seconds, and a renewal that is late makes it later.
		if early := time.Until(until); early > time.Second {
			t.Errorf("failure %d: buckets %v before its time", i+1, early)
		}
	}
	failAndReturn(t, operator, n, 4)
	command(t, operator, "in", n.Name)
	t.Logf("the operator lets it in: whole after %v", whole(t, l, holdLimit))
	if now := ask(t, operator).node(n.Name); now.Losses != 0 {
		t.Errorf("its losses are not forgotten: %+v", now)
	}
}

// failAndReturn kills a node's agent, waits until it is judged dead, and
// starts it again.
func failAndReturn(t *testing.T, operator, n *lab.Node, losses int) {
	t.Helper()
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, moveLimit, "the node has failed", func() error {
		s, err := statusOf(operator)
		if err != nil {
			return err
		}
		if got := s.node(n.Name); got.State != "failed" {
			return fmt.Errorf("%+v", got)
		}
		_, err = s.service("web").owners()
		return err
	})
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, formLimit, "the node is back", func() error {
		s, err := statusOf(operator)
		if err != nil {
			return err
		}
		if got := s.node(n.Name); got.State != "in" || !got.Alive || got.Losses != losses {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
}

func shareOf(s status, name string) share {
	for _, n := range s.service("web").Nodes {
		if n.Name == name {
			return n
		}
	}
	return share{}
}

// Shares are evened out a few buckets at a time, under load, and a node has
// the buckets that it prefers whenever it has a share.
func TestSharesAreEvenedOutInRounds(t *testing.T) {
	l := newLab(t, lab.Options{Nodes: 3, Services: map[string]lab.Service{"web": web("sourceip-sourceport", "tcp/80")}})
	for i, n := range l.Nodes {
		n.Config.Mature, n.Config.Round, n.Config.MovesPerRound = "1s", "500ms", 40
		service := n.Config.Services["web"]
		service.Prefer = []string{"", "", "100-199"}[i]
		n.Config.Services["web"] = service
	}
	if err := l.StartAll(); err != nil {
		t.Fatal(err)
	}
	whole(t, l, formLimit)
	formed(t, l)
	prefers(t, l, "n3", "100-199")
	w := watch(t, l)
	news := generate(t, l, steady(l))
	operator, n := l.Nodes[0], l.Nodes[2]
	command(t, operator, "out", n.Name)
	shareBecomes(t, operator, n.Name, func(own int) bool { return own == 0 })
	command(t, operator, "in", n.Name)
	began, seen := time.Now(), map[int]bool{}
	lab.Eventually(t, holdLimit, "an even share", func() error {
		own := ask(t, operator).service("web").owned(n.Name)
		seen[own] = true
		if own < 341 {
			return fmt.Errorf("%d buckets", own)
		}
		return nil
	})
	// 341 buckets, 40 in half a second: eight rounds at least after the first.
	if took := time.Since(began); took < 8*500*time.Millisecond || len(seen) < 5 {
		t.Errorf("even after %v, by way of %v", took, seen)
	}
	prefers(t, l, "n3", "100-199")
	wait(t, news)
	noFailure(t, "new connections", finish(t, "new connections", news))
	answeredOnce(t, w, load.TCP)
}

// prefers waits until a node has the buckets that it prefers.
func prefers(t *testing.T, l *lab.Lab, name, buckets string) {
	t.Helper()
	want, err := hashmode.ParseSet(buckets, 1024)
	if err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, holdLimit, name+" has what it prefers", func() error {
		own, err := hashmode.ParseSet(shareOf(ask(t, l.Nodes[0]), name).Own, 1024)
		if err == nil && !want.Minus(own).Empty() {
			err = fmt.Errorf("it lacks %v", want.Minus(own))
		}
		return err
	})
}
