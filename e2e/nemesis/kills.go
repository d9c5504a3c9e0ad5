package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"earshot/coordinator"
	"earshot/e2e/lab"
	"earshot/hashmode"
)

// wish is the last that the operator knows of one thing that commands set: to
// what it was set for sure, and what attempts since may have set it to.
type wish struct {
	sure  string
	maybe []string
}

// attempt notes a command before it is sent.
func (w *wish) attempt(value string) { w.maybe = append(w.maybe, value) }

// acknowledged notes that the last attempt was answered with a yes.
func (w *wish) acknowledged() { w.sure, w.maybe = w.maybe[len(w.maybe)-1], nil }

// allows reports whether the thing may have this value now.
func (w *wish) allows(value string) bool { return value == w.sure || slices.Contains(w.maybe, value) }

// found notes the value that it has, which is sure from now on.
func (w *wish) found(value string) { w.sure, w.maybe = value, nil }

// operator gives commands and remembers which were acknowledged.
type operator struct {
	*field
	rand   *rand.Rand
	pins   []wish // of the web service's buckets: the node, or nothing
	out    wish   // of the last node
	turn   int    // whose agent is asked
	acked  int
	failed int
}

const yes, no = "out", "in"

// command gives one command to a random node.
func (p *operator) command(ctx context.Context) {
	to := p.agents[p.Nodes[p.rand.IntN(len(p.Nodes))].Name]
	last := p.Nodes[len(p.Nodes)-1].Name
	if p.rand.IntN(4) == 0 {
		value := []string{yes, no}[p.rand.IntN(2)]
		p.out.attempt(value)
		_, err := to.Wish(ctx, coordinator.WishRequest{Node: last, Out: value == yes})
		p.count(err, &p.out)
		return
	}
	b := p.rand.IntN(len(p.pins))
	// Never to the node that comes and goes.
	node := []string{"", p.Nodes[0].Name, p.Nodes[1].Name}[p.rand.IntN(3)]
	p.pins[b].attempt(node)
	p.count(to.Move(ctx, coordinator.MoveRequest{Service: web, Buckets: fmt.Sprint(b), Node: node}), &p.pins[b])
}

// count notes what became of a command. One that failed may have been carried
// out all the same.
func (p *operator) count(err error, w *wish) {
	if err != nil {
		p.failed++
		return
	}
	p.acked++
	w.acknowledged()
}

// lost returns what the status has otherwise than it may be; nil when all is well.
func (p *operator) lost(s coordinator.Status) error {
	pins := make([]string, len(p.pins))
	for _, v := range s.Services {
		if v.Name != web {
			continue
		}
		for _, n := range v.Nodes {
			set, err := hashmode.ParseSet(n.Pinned, v.Buckets)
			if err != nil {
				return err
			}
			for b := range set.All() {
				pins[b] = n.Name
			}
		}
	}
	for b := range pins {
		if w := &p.pins[b]; !w.allows(pins[b]) {
			return fmt.Errorf("bucket %d is pinned to %q; acknowledged was %q, then tried %q", b, pins[b], w.sure, w.maybe)
		}
	}
	last := s.Nodes[len(s.Nodes)-1]
	state := map[bool]string{true: yes, false: no}[last.State == coordinator.StateOut || last.State == coordinator.StateDraining]
	if !p.out.allows(state) {
		return fmt.Errorf("%s is %s; acknowledged was %q, then tried %q", last.Name, state, p.out.sure, p.out.maybe)
	}
	for b := range pins {
		p.pins[b].found(pins[b])
	}
	p.out.found(state)
	return nil
}

// killLoop kills all agents at random moments while commands run. No command
// that was acknowledged may be lost (I5).
func killLoop(ctx context.Context, o options, out io.Writer) (err error) {
	f, err := newField(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.StartAll(); err != nil {
		return err
	}
	if err := f.awaitWhole(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, f.lastWords())
	}
	p := &operator{field: f, rand: rand.New(rand.NewPCG(o.seed, 1)), pins: make([]wish, buckets), out: wish{sure: no}}
	began := time.Now()
	for i := range o.kills {
		if ctx.Err() != nil {
			return nil
		}
		if err := p.round(ctx); err != nil {
			return fmt.Errorf("%w: kill %d: %w\nseed %d\n%s", errJudged, i+1, err, o.seed, f.lastWords())
		}
	}
	_, err = fmt.Fprintf(out, "%d times all agents were killed: %d commands acknowledged, %d not, none of the former lost (%.0f s)\n",
		o.kills, p.acked, p.failed, time.Since(began).Seconds())
	return err
}

// round gives commands, kills everything in the middle of them, starts it again
// and compares. One in three is followed by the next at once: that one then
// kills a cluster which is still coming up.
func (p *operator) round(ctx context.Context) error {
	wait := time.Duration(p.rand.Int64N(int64(commandFor))) // the goroutine has the source of chance then
	commanding, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.commandUntil(commanding)
	}()
	select {
	case <-ctx.Done():
	case <-time.After(wait):
	}
	err := p.KillAll()
	cancel()
	<-done
	if err = errors.Join(err, p.StartAll()); err != nil || p.rand.IntN(3) == 0 {
		return err
	}
	return p.compare(ctx)
}

const (
	// commandFor is for how long commands run before everything is killed, at most.
	commandFor = 600 * time.Millisecond
	// commandEvery is the time between two commands.
	commandEvery = 2 * time.Millisecond
)

// commandUntil gives commands until ctx ends.
func (p *operator) commandUntil(ctx context.Context) {
	tick := time.NewTicker(commandEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		p.command(ctx)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// compare waits until the cluster has all that was acknowledged.
func (p *operator) compare(ctx context.Context) error {
	return lab.Poll(ctx, wholeLimit, func() error {
		s, err := p.status(ctx, p.Nodes[p.turn%len(p.Nodes)].Name)
		p.turn++
		if err != nil {
			return err
		}
		if !s.Cluster.Quorum {
			return errors.New("no quorum")
		}
		for _, n := range s.Nodes {
			if !n.Alive || n.State == coordinator.StateFailed {
				return fmt.Errorf("node %s: alive %v, %s", n.Name, n.Alive, n.State)
			}
		}
		return p.lost(s)
	})
}
