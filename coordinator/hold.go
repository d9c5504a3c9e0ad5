package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"earshot/hashmode"
	"earshot/nft"
	"earshot/raftstore"
)

const (
	// holdLimit is how long a packet waits for a verdict. The client of one
	// that is dropped then has sent it again, or is about to.
	holdLimit = time.Second
	// holdRetry is the time between two looks at packets that wait for a
	// release, or for an answer that did not come.
	holdRetry = 20 * time.Millisecond
	// askAtOnce bounds the flows of one question.
	askAtOnce = 2000
	// askInParallel bounds the questions that are open at a time.
	askInParallel = 8
)

// claim is what one packet asks for, and what is to be done about it.
type claim int

const (
	claimDrop claim = iota // not ours, or not for us to open
	claimPass              // nobody else has flows in the bucket any more
	claimWait              // a former owner has not released the bucket yet
	claimAsk               // former owners may have the flow
)

// judgeHeld decides what a held packet needs, and whom to ask (rule P24). A
// "no" of a former owner is final only when it has released the bucket.
func judgeHeld(st *raftstore.State, node string, l levels, o opened, p nft.HeldPacket) (claim, []string) {
	v, known := st.Services[p.Service]
	if !known || int(p.Bucket) >= len(v.Map) || p.Flow.Protocol == nft.TCP && !p.Opens {
		return claimDrop, nil
	}
	slot := v.Map[p.Bucket]
	others := slices.DeleteFunc(append(slices.Clone(slot.From), slot.Owner), func(name string) bool { return name == node })
	switch {
	case slot.Owner != node && !o.hears(p.Service, p.Bucket):
		return claimDrop, nil
	case slot.Owner != node && !o.opens(p.Service, p.Bucket):
		return claimWait, nil
	case slot.Owner == node && !l.released(slot) && !o.buckets[p.Service].Has(p.Bucket):
		return claimWait, nil
	case len(others) == 0 && p.Opens:
		// Somebody had the bucket when it came, and is not to be asked any more:
		// a drain that was cut short. That one may have answered; if not, the
		// client sends it again.
		return claimDrop, nil
	case len(others) == 0:
		return claimPass, nil
	}
	return claimAsk, others
}

// asker judges packets that the kernel holds: it asks former owners whose they
// are. What goes wrong with it costs a delay, never a wrong answer.
type asker struct {
	node   string
	store  Store
	kernel Kernel
	news   *news
	opened func() opened
	known  func(ctx context.Context, node string, flows []nft.Flow) ([]bool, error)
	log    *slog.Logger
	wake   chan struct{}
	slots  chan struct{} // one for each open question

	mourning mourning // of run alone

	mu        sync.Mutex
	waiting   []heldPacket
	undecided map[nft.HeldID]heldPacket // those that wait, and those that are asked about
	problem   error                     // why nothing can be held
}

type heldPacket struct {
	nft.HeldPacket
	came time.Time
}

// hold has the kernel hold packets until ctx ends.
func (a *asker) hold(ctx context.Context) error {
	for a.kernel.Queue() != nft.QueueNone {
		err := a.kernel.Hold(ctx, func() { a.setProblem(nil) }, a.take)
		if ctx.Err() != nil {
			return nil
		}
		a.setProblem(err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
	<-ctx.Done()
	return nil
}

// setProblem keeps why nothing can be held, and logs it once.
func (a *asker) setProblem(err error) {
	a.mu.Lock()
	before := a.problem
	a.problem = err
	a.mu.Unlock()
	if err != nil && (before == nil || before.Error() != err.Error()) {
		a.log.Error("cannot hold packets: new flows wait while buckets move", "error", err)
	}
}

// trouble is why nothing can be held, or nil.
func (a *asker) trouble() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.problem
}

// take accepts packets that are held.
func (a *asker) take(packets []nft.HeldPacket) {
	now := time.Now()
	a.mu.Lock()
	if a.undecided == nil {
		a.undecided = map[nft.HeldID]heldPacket{}
	}
	for _, p := range packets {
		a.waiting = append(a.waiting, heldPacket{p, now})
		a.undecided[p.ID] = heldPacket{p, now}
	}
	a.mu.Unlock()
	signal(a.wake)
}

// run judges what is held until ctx ends.
func (a *asker) run(ctx context.Context) error {
	changed, cancel := a.store.Changed()
	defer cancel()
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-a.wake:
		case <-retry.C:
		}
		if a.judge(ctx) {
			retry.Reset(holdRetry)
		}
	}
}

// mourn has the kernel forget whose flows are others' when a node has died:
// they are nobody's now.
func (a *asker) mourn(st *raftstore.State, now time.Time) {
	if !a.mourning.look(st, now) {
		return
	}
	if err := a.kernel.AskAgain(); err != nil {
		a.log.Warn("flows of a dead node are left to it for some seconds", "error", err)
	}
}

// judge decides about all that waits, as far as it can be done without asking,
// has the rest asked about, and reports whether it must look again soon.
func (a *asker) judge(ctx context.Context) bool {
	a.mu.Lock()
	packets := a.waiting
	a.waiting = nil
	a.mu.Unlock()
	st, l, o := a.store.State(), a.news.all(), a.opened()
	now := time.Now()
	a.mourn(st, now)
	var verdicts []nft.Decision
	var left []heldPacket
	var asked []question
	for _, p := range packets {
		c, whom := judgeHeld(st, a.node, l, o, p.HeldPacket)
		// A bucket that nobody else has flows in is held no more: what is left
		// was held while somebody had.
		bereft := c == claimPass && a.mourning.minds(p.Service, p.Bucket, st.Services[p.Service].Map[p.Bucket], now)
		switch {
		case c == claimDrop || bereft || c != claimPass && now.Sub(p.came) > holdLimit:
			verdicts = append(verdicts, nft.Decision{ID: p.ID, Verdict: nft.Drop})
		case c == claimPass:
			verdicts = append(verdicts, nft.Decision{ID: p.ID, Verdict: nft.Pass})
		case c == claimWait:
			left = append(left, p)
		default:
			asked = append(asked, question{p, whom, st.Services[p.Service].Map[p.Bucket].Since})
		}
	}
	a.decide(verdicts)
	if len(asked) > 0 && !a.inquire(ctx, asked) {
		for _, q := range asked {
			left = append(left, q.heldPacket)
		}
	}
	return a.putBack(left)
}

// putBack has packets judged again, and reports whether there are any.
func (a *asker) putBack(packets []heldPacket) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = append(packets, a.waiting...)
	return len(packets) > 0
}

func (a *asker) decide(verdicts []nft.Decision) {
	if len(verdicts) == 0 {
		return
	}
	if err := a.kernel.Decide(verdicts); err != nil {
		a.log.Warn("verdicts about held packets were lost", "error", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, v := range verdicts {
		delete(a.undecided, v.ID)
	}
}

// oldest is the first of the packets without a verdict, by bucket.
func (a *asker) oldest() map[string]map[hashmode.Bucket]nft.HeldID {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := map[string]map[hashmode.Bucket]nft.HeldID{}
	for id, p := range a.undecided {
		if all[p.Service] == nil {
			all[p.Service] = map[hashmode.Bucket]nft.HeldID{}
		}
		if first, known := all[p.Service][p.Bucket]; !known || id < first {
			all[p.Service][p.Bucket] = id
		}
	}
	return all
}

// inquire asks about packets in a goroutine of its own, so that a node that
// does not answer holds up nobody else's packets. It returns false when too
// many questions are open.
func (a *asker) inquire(ctx context.Context, asked []question) bool {
	select {
	case a.slots <- struct{}{}:
	default:
		return false
	}
	go func() {
		defer func() { <-a.slots }()
		questions := map[string][]nft.Flow{}
		for _, q := range asked {
			for _, name := range q.whom {
				questions[name] = append(questions[name], q.Flow)
			}
		}
		a.conclude(asked, a.askAll(ctx, questions))
	}()
	return true
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
