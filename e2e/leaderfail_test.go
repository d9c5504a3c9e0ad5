package e2e

import (
	"slices"
	"testing"

	"earshot/e2e/lab"
)

// The leader's agent is killed in the middle of a drain: while buckets move, and
// when they have and flows are left. That costs its own flows and what comes to
// its buckets until others have them. Nobody else notices.
func TestTheLeaderDiesInTheMiddleOfADrain(t *testing.T) {
	longStory(t)
	for _, when := range []struct {
		name  string
		await func(c *crowd, draining, operator *lab.Node)
	}{
		{"while buckets move", func(*crowd, *lab.Node, *lab.Node) {}},
		{"while flows are left", func(c *crowd, draining, operator *lab.Node) {
			sharesBecome(c.t, operator, draining.Name, func(own int) bool { return own == 0 })
			c.pass()
		}},
	} {
		t.Run(when.name, func(t *testing.T) {
			var left estate
			inPeace(t, func(t *testing.T) *crowd {
				// A SYN that nobody answers has no port that the generator could
				// tell. So the bucket goes by the address alone.
				l := movingCluster(t, 3, movingServices("sourceip"))
				c := gather(t, l, serviceAddr)
				leader := l.Node(ask(t, l.Nodes[0]).Cluster.Leader)
				if leader == nil {
					t.Fatal("no leader")
				}
				others := slices.DeleteFunc(slices.Clone(l.Nodes), func(n *lab.Node) bool { return n == leader })
				draining, stays := others[0], others[1]
				command(t, stays, "out", draining.Name)
				when.await(c, draining, stays)
				left = c.kill(leader, stays)
				sharesBecome(t, stays, stays.Name, func(own int) bool { return own == 1024 })
				c.pass()
				c.must(leader.Start())
				comes(t, stays, draining)
				t.Logf("whole again after %v", whole(t, l, formLimit))
				c.pass()
				return c
			}, func(t *testing.T, p parting) { p.unharmedBut(t, left) })
		})
	}
}
