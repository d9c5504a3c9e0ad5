package e2e

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"earshot/e2e/lab"
)

// handMoved are the buckets that these stories move, n1's third.
const handMoved = "0-340"

// transfer is a crowd whose buckets 0-340 are with one node and are to go to
// another. The third leads, so that no failure here is also that of a leader.
type transfer struct {
	*crowd
	former, heir, third *lab.Node
}

func handed(t *testing.T) transfer {
	t.Helper()
	l := movingCluster(t, 3, movingServices("sourceip-sourceport"))
	i := slices.Index(l.Nodes, l.Node(ask(t, l.Nodes[0]).Cluster.Leader))
	if i < 0 {
		t.Fatal("no leader")
	}
	former, heir, third := l.Nodes[(i+1)%3], l.Nodes[(i+2)%3], l.Nodes[i]
	for _, service := range []string{"web", "echo"} {
		moves(t, third, service, handMoved, former.Name)
	}
	sharesBecome(t, third, former.Name, func(own int) bool { return own >= 341 })
	return transfer{gather(t, l, serviceAddr), former, heir, third}
}

// handOver gives the buckets to the heir, and does not wait.
func (c transfer) handOver() {
	c.t.Helper()
	for _, service := range []string{"web", "echo"} {
		moves(c.t, c.third, service, handMoved, c.heir.Name)
	}
}

// takenOver waits until every bucket is answered. Each look gets the states
// that it has seen. The first leader of a cluster that has just started gives
// nothing away before it has run for eleven leases, whatever dies.
func (c *crowd) takenOver(by *lab.Node, looks ...func(status)) {
	c.t.Helper()
	took := lab.Eventually(c.t, moveLimit, "every bucket is taken", func() error {
		s, err := statusOf(by)
		if err != nil {
			return err
		}
		for _, look := range looks {
			look(s)
		}
		for _, v := range s.Services {
			if _, err := v.owners(); err != nil {
				return err
			}
			for _, n := range v.Nodes {
				if n.Own != "" && !s.node(n.Name).Alive {
					return fmt.Errorf("%s is dead and owns %s", n.Name, n.Own)
				}
			}
		}
		return nil
	})
	c.t.Logf("every bucket is taken after %v", took)
}

// judgedDead waits until the cluster knows of a death.
func (c *crowd) judgedDead(dead, operator *lab.Node, looks ...func(status)) {
	c.t.Helper()
	lab.Eventually(c.t, moveLimit, dead.Name+" is judged dead", func() error {
		s, err := statusOf(operator)
		if err != nil {
			return err
		}
		for _, look := range looks {
			look(s)
		}
		if s.node(dead.Name).Alive {
			return errors.New("still alive")
		}
		return nil
	})
}

// buried waits until the cluster knows of a death and others have the buckets.
func (c *crowd) buried(dead, operator *lab.Node, looks ...func(status)) {
	c.t.Helper()
	c.judgedDead(dead, operator, looks...)
	c.takenOver(operator, looks...)
}

// killed has a node die, and come back once others have its buckets. What
// happens between its end and that is done in the meantime.
func (c transfer) killed(victim *lab.Node, meanwhile ...func() error) *lab.Node {
	c.t.Helper()
	c.must(victim.Kill())
	for _, do := range meanwhile {
		c.must(do())
	}
	c.buried(victim, c.third)
	c.must(victim.Start())
	return victim
}

// must ends the test at an error.
func (c *crowd) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// A node fails while it takes or gives buckets. That costs its own flows, and a
// delay; no flow of another node breaks or moves, nothing is answered twice.
func TestAFailureInTheMiddleOfAMove(t *testing.T) {
	longStory(t)
	for _, tc := range []struct {
		name string
		long bool // told with -moves.long only
		// fail returns the node whose flows end, if any.
		fail func(c transfer) *lab.Node
	}{
		{"the new owner is killed", false, func(c transfer) *lab.Node {
			c.handOver()
			return c.killed(c.heir)
		}},
		{"the new owner is killed with held packets", false, func(c transfer) *lab.Node {
			c.handOver()
			c.must(c.former.Pause()) // so that it answers no question
			lab.Eventually(c.t, moveLimit, "packets are held", func() error {
				use, err := c.heir.QueueUse(heldQueue)
				if err == nil && use.Waiting == 0 {
					err = errors.New("none")
				}
				return err
			})
			return c.killed(c.heir, c.former.Resume)
		}},
		{"the former owner is killed", false, func(c transfer) *lab.Node {
			c.handOver()
			return c.killed(c.former)
		}},
		{"the new owner stops for long", true, func(c transfer) *lab.Node {
			c.handOver()
			c.must(c.heir.Pause())
			c.buried(c.heir, c.third)
			c.must(c.heir.Resume())
			return c.heir
		}},
		{"the former owner stops for long", true, func(c transfer) *lab.Node {
			c.must(c.former.Pause()) // so that it does not release
			c.handOver()
			c.buried(c.former, c.third)
			c.must(c.former.Resume())
			return c.former
		}},
		{"the former owner stops for a moment", true, func(c transfer) *lab.Node {
			c.must(c.former.Pause())
			c.handOver()
			c.must(c.former.Resume())
			return nil
		}},
		{"the new owner stops for a moment", true, func(c transfer) *lab.Node {
			c.handOver()
			c.must(c.heir.Pause())
			_, err := statusOf(c.third)
			c.must(errors.Join(err, c.heir.Resume()))
			return nil
		}},
	} {
		if tc.long && !*movesLong {
			continue
		}
		t.Run(tc.name, func(t *testing.T) {
			c := handed(t)
			lost := tc.fail(c)
			t.Logf("whole again after %v", whole(t, c.lab, formLimit))
			c.pass()
			c.partUnlessDisturbed(lost)
		})
	}
}

// partUnlessDisturbed demands that no flow was harmed but those of the lost
// node, unless others lost their leases, too: then only that nobody was
// answered twice.
func (c *crowd) partUnlessDisturbed(lost *lab.Node) {
	c.t.Helper()
	p := c.disperse()
	others := 0
	var dead []string
	for _, n := range c.lab.Nodes {
		if n == lost {
			dead = append(dead, n.Name)
		} else {
			others += leasesLost(n)
		}
	}
	if others > 0 {
		c.t.Logf("JUDGED BY DOUBLE ANSWERS ALONE: the machine was too busy, other nodes lost their leases %d times", others)
		return
	}
	p.faithful(c.t, dead...)
}

// I1: flows that are cut go on with another node. When their bucket comes back,
// the node that had them at first has forgotten them: nothing is answered twice.
func TestFlowsThatWereCutAreAnsweredOnce(t *testing.T) {
	longStory(t)
	l := movingCluster(t, 3, movingServices("sourceip-sourceport"))
	c := gather(t, l, serviceAddr)
	for _, n := range l.Nodes[:2] {
		command(t, n, "out", "--now")
		sharesBecome(t, n, n.Name, func(own int) bool { return own == 0 })
		c.pass()
		comes(t, n, n)
		c.pass()
	}
	if moved := c.disperse().records["quick flows"].Moved(); len(moved) == 0 {
		t.Error("no flow was cut")
	}
}
