package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"earshot/coordinator"
	"earshot/e2e/lab"
)

// fault is one way of breaking things. strike breaks and mends, and says what
// it did; waiting until the cluster is whole is its caller's.
type fault struct {
	name   string
	weight int // how often it is chosen
	// loses: a quorum may be lost, so buckets may be without a node.
	loses bool
	// restarts: the cluster is as new after it.
	restarts bool
	strike   func(*attack) error
}

// faults are all of them.
func faults() []fault {
	return []fault{
		{name: "kill", weight: 4, strike: (*attack).kill},
		{name: "pause", weight: 6, strike: (*attack).pause},
		{name: "pause leader", weight: 8, strike: (*attack).pauseLeader},
		{name: "isolate", weight: 5, strike: (*attack).isolate},
		{name: "one way", weight: 5, strike: (*attack).oneWay},
		{name: "sever", weight: 3, strike: (*attack).sever},
		{name: "link down", weight: 4, strike: (*attack).linkDown},
		{name: "service link down", weight: 2, strike: (*attack).serviceLinkDown},
		{name: "power loss", weight: 3, strike: (*attack).powerLoss},
		{name: "full disk", weight: 3, strike: (*attack).fullDisk},
		{name: "clean restart", weight: 3, strike: (*attack).cleanRestart},
		{name: "out and in", weight: 3, strike: (*attack).outAndIn},
		{name: "move", weight: 2, strike: (*attack).moveByHand},
		{name: "kill everything", weight: 2, loses: true, restarts: true, strike: (*attack).killEverything},
		{name: "pause everything", weight: 2, loses: true, strike: (*attack).pauseEverything},
		{name: "starve", weight: 2, loses: true, strike: (*attack).starve},
		{name: "scatter", weight: 2, loses: true, strike: (*attack).scatter},
		{name: "pause leader, kill another", weight: 2, loses: true, strike: (*attack).pauseAndKill},
	}
}

// choose keeps the faults whose names hold the text.
func choose(all []fault, text string) ([]fault, error) {
	var chosen []fault
	for _, f := range all {
		if strings.Contains(f.name, text) {
			chosen = append(chosen, f)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no fault has %q in its name", text)
	}
	return chosen, nil
}

// attack is one strike of a fault.
type attack struct {
	*campaign
	ctx  context.Context
	said []string // what was done, for people
}

func (a *attack) say(format string, args ...any) {
	a.said = append(a.said, fmt.Sprintf(format, args...))
}

// pass lets the fault last.
func (a *attack) pass(d time.Duration) error {
	select {
	case <-a.ctx.Done():
		return context.Cause(a.ctx)
	case <-time.After(d):
		return nil
	}
}

// span is a random time, small ones as likely as long ones.
func (a *attack) span(least, most time.Duration) time.Duration {
	d := float64(least) * math.Exp(a.rand.Float64()*math.Log(float64(most)/float64(least)))
	return time.Duration(d).Round(time.Millisecond)
}

// someone is a random node: the leader in half of all cases.
func (a *attack) someone() (*lab.Node, error) {
	leader, err := a.leader(a.ctx)
	if err != nil {
		return nil, err
	}
	n := a.Nodes[a.rand.IntN(len(a.Nodes))]
	if a.rand.IntN(2) == 0 {
		n = leader
	}
	role := ""
	if n == leader {
		role = ", the leader"
	}
	a.say("%s%s", n.Name, role)
	return n, nil
}

// others are all nodes but one.
func (a *attack) others(than *lab.Node) []*lab.Node {
	var others []*lab.Node
	for _, n := range a.Nodes {
		if n != than {
			others = append(others, n)
		}
	}
	return others
}

func (a *attack) kill() error {
	n, err := a.someone()
	if err != nil {
		return err
	}
	if err := n.Kill(); err != nil {
		return err
	}
	d := a.span(time.Millisecond, 2*time.Second)
	a.say("for %v", d)
	return errors.Join(a.pass(d), n.Start())
}

func (a *attack) pause() error {
	n, err := a.someone()
	if err != nil {
		return err
	}
	return a.pauseNode(n)
}

func (a *attack) pauseLeader() error {
	n, err := a.leader(a.ctx)
	if err != nil {
		return err
	}
	a.say("%s", n.Name)
	return a.pauseNode(n)
}

func (a *attack) pauseNode(n *lab.Node) error {
	d := a.span(10*time.Millisecond, 5*time.Second)
	a.say("for %v", d)
	return errors.Join(n.Pause(), a.pass(d), n.Resume())
}

func (a *attack) isolate() error {
	n, err := a.someone()
	if err != nil {
		return err
	}
	return a.during(a.Isolate(n), 3*time.Second)
}

// during lets cuts last, and heals them.
func (a *attack) during(err error, most time.Duration) error {
	d := a.span(30*time.Millisecond, most)
	a.say("for %v", d)
	return errors.Join(err, a.pass(d), a.Heal())
}

// oneWay has one node not heard by others, or not hear them.
func (a *attack) oneWay() error {
	n, err := a.someone()
	if err != nil {
		return err
	}
	deaf := a.rand.IntN(2) == 0
	a.say("%s", map[bool]string{true: "does not hear", false: "is not heard by"}[deaf])
	for _, other := range a.others(n)[a.rand.IntN(2):] {
		from, to := n, other
		if deaf {
			from, to = other, n
		}
		a.say("%s", other.Name)
		if err := a.Cut(from.Cluster, to.Cluster); err != nil {
			return err
		}
	}
	return a.during(nil, 3*time.Second)
}

func (a *attack) sever() error {
	n, err := a.someone()
	if err != nil {
		return err
	}
	others := a.others(n)
	other := others[a.rand.IntN(len(others))]
	a.say("and %s", other.Name)
	return a.during(a.Sever(n.Cluster, other.Cluster), 3*time.Second)
}

func (a *attack) linkDown() error {
	n, err := a.someone()
	if err != nil {
		return err
	}
	return a.unplug(n.Cluster)
}

func (a *attack) serviceLinkDown() error {
	n, err := a.someone()
	if err != nil {
		return err
	}
	return a.unplug(n.Port)
}

// unplug takes the carrier away for a while.
func (a *attack) unplug(p *lab.Port) error {
	d := a.span(10*time.Millisecond, 3*time.Second)
	a.say("for %v", d)
	return errors.Join(p.Unplug(), a.pass(d), p.Replug())
}

// powerLoss ends a node without a last word: both wires first, so that no
// process that dies can say goodbye; what its kernel held is gone.
func (a *attack) powerLoss() error {
	n, err := a.someone()
	if err != nil {
		return err
	}
	err = errors.Join(n.Port.Unplug(), n.Cluster.Unplug(), n.Kill(), a.servers[n.Name].Close(), a.flush(n))
	d := a.span(100*time.Millisecond, 3*time.Second)
	a.say("for %v", d)
	return errors.Join(err, a.pass(d), n.Port.Replug(), n.Cluster.Replug(), a.serve(n), n.Start())
}

// flush has a node's kernel forget.
func (a *attack) flush(n *lab.Node) error {
	r, err := n.Run("flush")
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("flush of %s: exit status %d: %s", n.Name, r.Code, r.Stderr)
	}
	return err
}

func (a *attack) cleanRestart() error {
	n, err := a.someone()
	if err != nil {
		return err
	}
	if err := n.Stop(); err != nil {
		return err
	}
	return n.Start()
}

func (a *attack) outAndIn() error {
	n, err := a.someone()
	if err != nil {
		return err
	}
	if err := a.tell(n, true); err != nil {
		return err
	}
	if err := a.awaitWhole(a.ctx); err != nil {
		return err
	}
	return a.tell(n, false)
}

// tell takes a node out or brings it in.
func (a *attack) tell(n *lab.Node, out bool) error {
	ctx, cancel := context.WithTimeout(a.ctx, wholeLimit)
	defer cancel()
	a.away[n.Name] = out
	_, err := a.agents[n.Name].Wish(ctx, coordinator.WishRequest{Node: n.Name, Out: out})
	return err
}

// moveByHand moves buckets about in quick succession, and lets go of them.
func (a *attack) moveByHand() error {
	first := a.rand.IntN(buckets - 4)
	set := fmt.Sprintf("%d-%d", first, first+4)
	targets := append([]string{}, a.Nodes[0].Name, a.Nodes[1].Name, a.Nodes[2].Name, "")
	a.rand.Shuffle(len(targets)-1, func(i, j int) { targets[i], targets[j] = targets[j], targets[i] })
	a.say("buckets %s to %q", set, targets)
	for _, to := range targets {
		for _, service := range []string{web, echo} {
			if err := a.agents[a.Nodes[0].Name].Move(a.ctx, coordinator.MoveRequest{Service: service, Buckets: set, Node: to}); err != nil {
				return err
			}
		}
		if err := a.pass(a.span(time.Millisecond, 500*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

func (a *attack) killEverything() error {
	if err := a.KillAll(); err != nil {
		return err
	}
	d := a.span(time.Millisecond, 2*time.Second)
	a.say("for %v", d)
	return errors.Join(a.pass(d), a.StartAll())
}

// pauseEverything stops all agents and lets them go on in another order.
func (a *attack) pauseEverything() error {
	var errs []error
	for _, n := range a.shuffled() {
		errs = append(errs, n.Pause(), a.pass(a.span(time.Millisecond, 200*time.Millisecond)))
	}
	d := a.span(10*time.Millisecond, 3*time.Second)
	a.say("for %v", d)
	errs = append(errs, a.pass(d))
	for _, n := range a.shuffled() {
		a.say("%s goes on", n.Name)
		errs = append(errs, n.Resume(), a.pass(a.span(time.Millisecond, 500*time.Millisecond)))
	}
	return errors.Join(errs...)
}

// shuffled are the nodes in a random order.
func (a *attack) shuffled() []*lab.Node {
	var nodes []*lab.Node
	for _, i := range a.rand.Perm(len(a.Nodes)) {
		nodes = append(nodes, a.Nodes[i])
	}
	return nodes
}

// starve has all agents run by fits and starts, as on a machine that has too
// much to do: each is stopped for about a lease, and runs for some of one.
func (a *attack) starve() error {
	until := time.Now().Add(a.span(time.Second, 6*time.Second))
	for time.Now().Before(until) {
		var errs []error
		for _, n := range a.shuffled() {
			errs = append(errs, n.Pause())
		}
		errs = append(errs, a.pass(a.span(a.o.lease/3, 3*a.o.lease/2)))
		for _, n := range a.shuffled() {
			errs = append(errs, n.Resume(), a.pass(a.span(time.Millisecond, 20*time.Millisecond)))
		}
		if err := errors.Join(append(errs, a.pass(a.span(20*time.Millisecond, a.o.lease)))...); err != nil {
			return err
		}
	}
	return nil
}

// scatter has no node hear any other.
func (a *attack) scatter() error {
	var errs []error
	for _, n := range a.Nodes {
		errs = append(errs, a.Isolate(n))
	}
	return a.during(errors.Join(errs...), 3*time.Second)
}

// pauseAndKill stops the leader, kills another, and has both come back.
func (a *attack) pauseAndKill() error {
	leader, err := a.leader(a.ctx)
	if err != nil {
		return err
	}
	others := a.others(leader)
	other := others[a.rand.IntN(len(others))]
	paused, dead := a.span(10*time.Millisecond, 3*time.Second), a.span(time.Millisecond, time.Second)
	a.say("%s for %v, %s for %v", leader.Name, paused, other.Name, dead)
	return errors.Join(leader.Pause(), other.Kill(), a.pass(dead), other.Start(), a.pass(paused), leader.Resume())
}
