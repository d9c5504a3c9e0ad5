package coordinator

import (
	"context"
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

	mourning mourning // of run alone

	mu        sync.Mutex
	waiting   []heldPacket
	undecided map[nft.HeldID]heldPacket // those that wait, and those that are asked about
	open      map[string]int            // inquiries, by whom they ask
	// turnedAway has those for whose end packets wait.
	turnedAway map[string]bool
	problem    error // why nothing can be held
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

// mourn has the kernel forget whose flows are others' when a node has died, or
// has ended one of the drains of a bucket: its flows are nobody's now, and what
// comes of them is to be asked about again.
func (a *asker) mourn(st *raftstore.State, now time.Time) {
	ended := letGo(a.mourning.last, st, a.node)
	if died := a.mourning.look(st, now); !died && !ended {
		return
	}
	if err := a.kernel.AskAgain(); err != nil {
		a.log.Warn("flows of a node that has died, or has given them up, are left to it for some seconds", "error", err)
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
		// Of those to be asked one is dead. In a bucket that nobody else has flows in
		// nothing is held any more: what is left was held while somebody had, whenever
		// it was told of. Else what comes after the death is new.
		bereft := (c == claimPass || c == claimAsk && p.came.Before(a.mourning.since)) &&
			a.mourning.minds(p.Service, p.Bucket, st.Services[p.Service].Map[p.Bucket], now)
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
	for whom, some := range byWhom(asked) {
		if a.inquire(ctx, whom, some) {
			continue
		}
		for _, q := range some {
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
