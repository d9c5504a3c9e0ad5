package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"earshot/e2e/lab"
	"earshot/e2e/load"
)

// heldQueue is the number of the queue that packets of moving buckets wait in.
const heldQueue = 7440

// tells waits until a node's status has a warning with the words, or has none.
func tells(t *testing.T, n *lab.Node, words string, wanted bool) {
	t.Helper()
	lab.Eventually(t, moveLimit, fmt.Sprintf("the status tells of %q: %v", words, wanted), func() error {
		text := strings.Join(strings.Fields(command(t, n, "status")), " ")
		if strings.Contains(text, words) != wanted {
			return errors.New(text)
		}
		return nil
	})
}

// Another program has the queue of the node that buckets move to, and lets all
// packets in that it is given. Status and check say so, and what to do. The
// node opens nothing that it cannot ask about: no flow breaks or moves, nothing is
// answered twice, TCP waits a moment. When that program ends, all is as it was.
func TestAnotherProgramHasTheQueue(t *testing.T) {
	longStory(t)
	inPeace(t, func(t *testing.T) *crowd {
		c := handed(t)
		c.must(c.heir.Stop())
		thief, err := c.heir.TakeQueue(heldQueue)
		c.must(err)
		defer thief.Close()
		c.must(c.heir.Start())
		whole(t, c.lab, formLimit)
		words := c.heir.Name + ": hold packets: bind queue 7440: the queue is taken by"
		tells(t, c.third, words, true)
		checkTells(t, c.third, c.heir.Name)
		checkTells(t, c.heir, c.heir.Name)
		c.handOver()
		sharesBecome(t, c.third, c.heir.Name, func(own int) bool { return own >= 341 })
		c.pass()
		c.must(thief.Close())
		if n := thief.Accepted(); n > 0 {
			t.Errorf("the other program was given %d packets, and let them in", n)
		}
		tells(t, c.third, words, false)
		// Held and asked about again: datagrams without a flow are answered.
		p := load.Plan{
			Kind: load.UDP, Target: netip.AddrPortFrom(serviceAddr, onceAPort), Sources: c.lab.Clients[0].SourceList(1000),
			Rate: 200, Count: 1000, Linger: 1,
		}
		records, err := generate(t, c.lab, p).Wait()
		c.must(err)
		noFailure(t, "datagrams after it has gone", records)
		return c.crowd
	}, func(t *testing.T, p parting) {
		p.faithful(t)
		noFailure(t, newTCP, p.records[newTCP])
		if p.tcp.Unanswered > 0 {
			t.Errorf("%d SYNs were not answered", p.tcp.Unanswered)
		}
	})
}

// checkTells demands that `earshot check`, run on one node, names another's
// lost queue and what to do about it.
func checkTells(t *testing.T, n *lab.Node, about string) {
	t.Helper()
	found, _ := examine(t, n)
	for _, f := range found.Findings {
		if f.Severity == "warn" && f.Node == about && strings.Contains(f.What, "the queue is taken") && strings.Contains(f.What, "end it") {
			return
		}
	}
	t.Errorf("check on %s says nothing of the queue of %s: %+v", n.Name, about, found.Findings)
}
