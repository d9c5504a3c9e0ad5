package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"earshot/nft"
	"earshot/raftstore"
)

const (
	// askAtOnce bounds the flows of one question.
	askAtOnce = 2000
	// askInParallel bounds the inquiries of the same nodes that are open at a
	// time. What comes meanwhile is asked about together when one of them ends:
	// the busier the nodes are, the more flows go into one question.
	askInParallel = 2
)

// byWhom sorts questions by the nodes that they are for: one that does not
// answer delays only what cannot be decided without it.
func byWhom(asked []question) map[string][]question {
	sets := map[string][]question{}
	for _, q := range asked {
		whom := strings.Join(q.whom, " ")
		sets[whom] = append(sets[whom], q)
	}
	return sets
}

// inquire asks the same nodes about packets, in a goroutine of its own. It
// returns false when too many inquiries of them are open. Those of others do
// not count: nodes that do not answer hold up nobody else's packets.
func (a *asker) inquire(ctx context.Context, whom string, asked []question) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open == nil {
		a.open, a.turnedAway = map[string]int{}, map[string]bool{}
	}
	if a.open[whom] >= askInParallel {
		a.turnedAway[whom] = true
		return false
	}
	a.open[whom]++
	go func() {
		questions := map[string][]nft.Flow{}
		for _, q := range asked {
			for _, name := range q.whom {
				questions[name] = append(questions[name], q.Flow)
			}
		}
		a.conclude(asked, a.askAll(ctx, questions))
		a.end(whom)
	}()
	return true
}

// end makes room for the next inquiry, for which packets may wait.
func (a *asker) end(whom string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open[whom]--; a.open[whom] == 0 {
		delete(a.open, whom)
	}
	if a.turnedAway[whom] {
		delete(a.turnedAway, whom)
		signal(a.wake)
	}
}

// conclude decides by the answers. What has moved meanwhile, or was not
// answered, is judged again.
func (a *asker) conclude(asked []question, answers map[string]answer) {
	st := a.store.State()
	var verdicts []nft.Decision
	var left []heldPacket
	for _, q := range asked {
		v, known := st.Services[q.Service]
		moved := !known || int(q.Bucket) >= len(v.Map) || v.Map[q.Bucket].Since != q.since
		verdict, complete := q.verdict(answers)
		if moved || !complete {
			left = append(left, q.heldPacket)
			continue
		}
		if verdict == nft.Theirs && q.outdated(v.Map[q.Bucket]) {
			verdict = nft.Drop // who has the flow may have had this packet, and will have no other
		}
		verdicts = append(verdicts, nft.Decision{ID: q.ID, Verdict: verdict})
	}
	a.decide(verdicts)
	if a.putBack(left) {
		time.AfterFunc(holdRetry, func() { signal(a.wake) })
	}
}

// question is a packet with the nodes to ask, as of the bucket's last move.
type question struct {
	heldPacket
	whom  []string
	since uint64
}

// outdated reports whether a node that was asked has no part in the bucket any
// more: what it has said is not to be remembered.
func (q question) outdated(slot raftstore.Slot) bool {
	return slices.ContainsFunc(q.whom, func(name string) bool {
		return name != slot.Owner && !slices.Contains(slot.From, name)
	})
}

// answer is what one node said of flows; nil if it did not.
type answer map[nft.Flow]bool

// verdict is what the answers come to; not ok if one is missing.
func (q question) verdict(answers map[string]answer) (v nft.Verdict, ok bool) {
	complete := true
	for _, name := range q.whom {
		yes, said := answers[name][q.Flow]
		if yes {
			return nft.Theirs, true
		}
		complete = complete && said
	}
	return nft.Pass, complete
}

// askAll asks all nodes at once.
func (a *asker) askAll(ctx context.Context, questions map[string][]nft.Flow) map[string]answer {
	answers := map[string]answer{}
	var mu sync.Mutex
	var asking sync.WaitGroup
	for name, flows := range questions {
		asking.Go(func() {
			said, err := a.ask(ctx, name, flows)
			if err != nil {
				a.log.Debug("whose flows these are is unknown", "asked", name, "flows", len(flows), "error", err)
			}
			mu.Lock()
			defer mu.Unlock()
			answers[name] = said
		})
	}
	asking.Wait()
	return answers
}

// ask asks one node. What was answered before an error counts.
func (a *asker) ask(ctx context.Context, name string, flows []nft.Flow) (answer, error) {
	said := answer{}
	var each []nft.Flow
	seen := map[nft.Flow]bool{}
	for _, f := range flows {
		if !seen[f] {
			seen[f] = true
			each = append(each, f)
		}
	}
	for some := range slices.Chunk(each, askAtOnce) {
		yours, err := a.known(ctx, name, some)
		if err != nil {
			return said, err
		}
		if len(yours) != len(some) {
			return said, errShortAnswer
		}
		for i, f := range some {
			said[f] = yours[i]
		}
	}
	return said, nil
}

var errShortAnswer = errors.New("the answer is not of as many flows as the question")

// askWhose asks another node which flows are its own.
func (c *Coordinator) askWhose(ctx context.Context, node string, flows []nft.Flow) ([]bool, error) {
	n, known := c.store.State().Nodes[node]
	if !known {
		return nil, fmt.Errorf("%w %q", raftstore.ErrUnknownNode, node)
	}
	ctx, cancel := context.WithTimeout(ctx, max(c.cfg.Timing.Lease/2, holdLimit/4))
	defer cancel()
	var a whoseAnswer
	err := c.peers.Call(ctx, n.Listen, pathWhose, whose{Flows: flows}, &a)
	return a.Mine, err
}
