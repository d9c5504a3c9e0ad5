package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"earshot/e2e/lab"
)

// step is an act before it is played.
type step struct {
	act
	typed string             // the command, if it is one
	words string             // what happens, for people
	marks map[string]string  // what is to be said of nodes meanwhile
	do    func() error       // makes it happen
	until func(sample) error // what the client must see before it goes on
	found func(sample) string
	lasts time.Duration // how long it is shown at least
}

const (
	// refresh is the time between two looks at the client's answers.
	refresh = 200 * time.Millisecond
	// grace is the time an act may take beyond what it lasts.
	grace = 6 * time.Second
	// settled is longer than the client's patience: what an act breaks fails
	// before the next one begins.
	settled = patience + time.Second
	// fair is the least share of a node that answers with two others.
	fair = 0.25
)

// story is the demo while it is played.
type story struct {
	*cast
	show  *display
	acts  []act
	found []string // per act, what the client's answers show
	begun time.Time
}

func newStory(c *cast, d *display) *story { return &story{cast: c, show: d, begun: time.Now()} }

// steps are the acts in order.
func (s *story) steps() []step {
	away, victim := s.away.Name, s.victim.Name
	return []step{
		{
			act:   act{name: "all three answer", faultless: true},
			words: "Each node hears every frame; a hash of the client's address says who answers.",
			do:    s.ask, until: s.answering(s.Nodes...), lasts: 4 * time.Second,
		},
		{
			act:   act{name: "earshot out " + away, faultless: true},
			typed: "earshot out " + away, marks: map[string]string{away: "out"},
			words: "Its buckets move. Connections that it has open stay with it.",
			do:    func() error { return s.earshot(s.desk, "out", away) },
			until: s.silent(s.away), found: s.leaving, lasts: settled,
		},
		{
			act:   act{name: "earshot in " + away, faultless: true},
			typed: "earshot in " + away,
			words: "It gets its third back; nothing else moves.",
			do:    func() error { return s.earshot(s.desk, "in", away) },
			until: s.answering(s.Nodes...), found: s.coming(s.away), lasts: settled,
		},
		{
			act:   act{name: victim + " loses power", sudden: true},
			marks: map[string]string{victim: "no power"},
			words: "The leader, the hardest case, without a last word. What it had open breaks.",
			do:    func() error { return s.cutPower(s.victim) },
			until: s.calmed, found: s.outage, lasts: settled,
		},
		{
			act:   act{name: victim + " is back", faultless: true},
			words: "It boots, joins by itself and gets its third.",
			do:    func() error { return s.restorePower(s.victim) },
			until: s.answering(s.Nodes...), found: s.coming(s.victim), lasts: settled - time.Second,
		},
	}
}

// tell plays all acts.
func (s *story) tell(ctx context.Context) error {
	for _, step := range s.steps() {
		if err := s.play(ctx, step); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// play plays one act: it shows the client's answers for a while, and on until
// they are as they should be.
func (s *story) play(ctx context.Context, p step) error {
	s.show.act(p)
	p.began = time.Now()
	s.acts, s.found = append(s.acts, p.act), append(s.found, "")
	if err := p.do(); err != nil {
		return err
	}
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		now := s.look()
		if p.found != nil {
			s.found[len(s.found)-1] = p.found(now)
		}
		s.show.frame(s.frame(p, now))
		elapsed, err := time.Since(p.began), p.until(now)
		if err == nil && elapsed >= p.lasts {
			return nil
		}
		if err != nil && elapsed >= p.lasts+grace {
			return err
		}
	}
}

// look takes a sample of the client's answers.
func (s *story) look() sample {
	return sample{at: time.Now(), fresh: s.fresh.Records(), kept: s.kept.Records()}
}

// answering demands that the nodes answer an even part each.
func (s *story) answering(nodes ...*lab.Node) func(sample) error {
	return func(now sample) error {
		for _, n := range nodes {
			if share := now.share(n.Name); share < fair {
				return fmt.Errorf("%s answers %.0f %% of the new connections", n.Name, 100*share)
			}
		}
		return nil
	}
}

// silent demands that a node answers no new connection.
func (s *story) silent(n *lab.Node) func(sample) error {
	return func(now sample) error {
		if share := now.share(n.Name); share > 0 {
			return fmt.Errorf("%s still answers %.0f %% of the new connections", n.Name, 100*share)
		}
		return nil
	}
}

// calmed demands that every new connection is answered promptly, by the two
// that are left.
func (s *story) calmed(now sample) error {
	if !now.calm() {
		return errors.New("new connections still fail or wait")
	}
	return s.answering(s.desk, s.away)(now)
}

// began is when the act that is played now began.
func (s *story) began() time.Time { return s.acts[len(s.acts)-1].began }

func (s *story) leaving(now sample) string {
	return fmt.Sprintf("its last new connection came %s after the command; %d open ones went on",
		duration(now.lastBy(s.away.Name, s.began())), now.open()[s.away.Name])
}

func (s *story) coming(n *lab.Node) func(sample) string {
	return func(now sample) string {
		first, ok := now.firstBy(n.Name, s.began())
		if !ok {
			return ""
		}
		return "its first new connection came after " + duration(first)
	}
}

func (s *story) outage(now sample) string {
	gap := now.gap(s.began())
	if gap == 0 {
		return "no new connection waited"
	}
	return "all new connections were answered at once again after " + duration(gap)
}
