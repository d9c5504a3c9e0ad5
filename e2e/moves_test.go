package e2e

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"earshot/e2e/lab"
)

// leaves takes nodes out and waits until they open no flows, comes brings them
// back.
func leaves(t *testing.T, operator *lab.Node, nodes ...*lab.Node) {
	t.Helper()
	for _, n := range nodes {
		command(t, operator, "out", n.Name)
	}
	for _, n := range nodes {
		sharesBecome(t, operator, n.Name, func(own int) bool { return own == 0 })
	}
}

func comes(t *testing.T, operator *lab.Node, nodes ...*lab.Node) {
	t.Helper()
	for _, n := range nodes {
		command(t, operator, "in", n.Name)
	}
	for _, n := range nodes {
		sharesBecome(t, operator, n.Name, func(own int) bool { return own > 0 })
	}
}

// sharesBecome waits until a node's share of every service is as wanted and
// no move waits.
func sharesBecome(t *testing.T, operator *lab.Node, name string, wanted func(own int) bool) {
	t.Helper()
	took := lab.Eventually(t, moveLimit, "shares of "+name, func() error {
		s, err := statusOf(operator)
		if err != nil {
			return err
		}
		for _, v := range s.Services {
			if _, err := v.owners(); err != nil {
				return err
			}
			if own := v.owned(name); !wanted(own) {
				return fmt.Errorf("%s owns %d buckets of %s", name, own, v.Name)
			}
		}
		return nil
	})
	t.Logf("shares of %s moved after %v", name, took)
}

// I1, I3: each node is taken out and brought back while connections are opened
// and flows of every kind are open. Nothing breaks, moves or waits.
func TestNobodyNoticesThatNodesComeAndGo(t *testing.T) {
	inPeace(t, func(t *testing.T) *crowd {
		l := movingCluster(t, 3, movingServices("sourceip-sourceport"))
		c := gather(t, l, serviceAddr)
		comeAndGo(c)
		if *movesLong {
			leaves(t, l.Nodes[0], l.Nodes[2])
			for until := time.Now().Add(time.Minute); time.Now().Before(until); {
				c.pass()
			}
			comes(t, l.Nodes[0], l.Nodes[2])
			c.pass()
		}
		return c
	}, func(t *testing.T, p parting) { p.unharmed(t) })
}

// comeAndGo has each node in turn go and come, by commands to another.
func comeAndGo(c *crowd) {
	for i, n := range c.lab.Nodes {
		operator := c.lab.Nodes[(i+1)%len(c.lab.Nodes)]
		leaves(c.t, operator, n)
		c.pass()
		comes(c.t, operator, n)
		c.pass()
	}
}

// The same over IPv6, by a multicast and by a stealth MAC.
func TestNobodyNoticesOverIPv6(t *testing.T) {
	longStory(t)
	for _, mode := range []string{"multicast", "stealth"} {
		t.Run(mode, func(t *testing.T) {
			services := movingServices("sourceip-sourceport")
			for name, s := range services {
				s.Address, s.MACMode = sixthAddr.String()+"/64", mode
				services[name] = s
			}
			inPeace(t, func(t *testing.T) *crowd {
				c := gather(t, movingCluster(t, 3, services), sixthAddr)
				leaves(t, c.lab.Nodes[0], c.lab.Nodes[2])
				c.pass()
				comes(t, c.lab.Nodes[0], c.lab.Nodes[2])
				c.pass()
				return c
			}, func(t *testing.T, p parting) { p.unharmed(t) })
		})
	}
}

// The same while a second node is drained at the same time.
func TestNobodyNoticesThatTwoNodesGoAtATime(t *testing.T) {
	longStory(t)
	inPeace(t, func(t *testing.T) *crowd {
		c := gather(t, movingCluster(t, 3, movingServices("sourceip-sourceport")), serviceAddr)
		for i := range c.lab.Nodes {
			stays, first, second := c.lab.Nodes[i], c.lab.Nodes[(i+1)%3], c.lab.Nodes[(i+2)%3]
			leaves(t, stays, first, second)
			c.pass()
			comes(t, stays, second, first)
			c.pass()
			if !*movesLong {
				break
			}
		}
		return c
	}, func(t *testing.T, p parting) { p.unharmed(t) })
}

// P12: buckets move on while they drain, from A by B to C, and back from B to
// A, some of them before the move before has been settled. All former owners keep
// their flows, and are asked; the one in between goes on with what it holds.
func TestBucketsMoveOnAndBackAndNothingBreaks(t *testing.T) {
	longStory(t)
	inPeace(t, func(t *testing.T) *crowd {
		c := gather(t, movingCluster(t, 3, movingServices("sourceip-sourceport")), serviceAddr)
		path := []string{"n2", "n3", "n1", "n3", "n2", "n3"}
		if *movesLong {
			path = slices.Repeat(path, 5)
		}
		for i, to := range path {
			for _, service := range []string{"web", "echo"} {
				moves(t, c.lab.Nodes[i%3], service, "0-340", to)
			}
			if i%3 > 0 {
				continue // the next one follows at once
			}
			sharesBecome(t, c.lab.Nodes[0], to, func(own int) bool { return own >= 341 })
			c.pass()
		}
		c.pass()
		return c
	}, func(t *testing.T, p parting) { p.unharmed(t) })
}

// moves gives buckets to a node. A move that is not taken yet may be in the way.
func moves(t *testing.T, operator *lab.Node, service, buckets, to string) {
	t.Helper()
	lab.Eventually(t, moveLimit, "move "+service+" to "+to, func() error {
		r, err := operator.Run("move", service, buckets, to)
		if err == nil && r.Code != 0 {
			err = errors.New(r.Stderr)
		}
		return err
	})
}
