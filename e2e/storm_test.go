package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"earshot/e2e/lab"
	"earshot/e2e/load"
	"earshot/hashmode"
)

// The storm: so many services whose checks look for a file every 50 ms, and
// the file comes and goes as often.
const (
	stormServices = 10
	stormEvery    = 50 * time.Millisecond
	stormTime     = time.Minute
	stormMature   = 5 * time.Second
	// stormChanges is how many changes of health per second each node has to
	// see, or there was no storm.
	stormChanges = 100
)

func stormName(i int) string { return fmt.Sprintf("s%d", i) }

// newStorm makes three nodes with a quiet service and those of the storm.
func newStorm(t *testing.T) *lab.Lab {
	t.Helper()
	l := newLab(t, lab.Options{Nodes: 3, Services: map[string]lab.Service{"web": web("sourceip-sourceport", "tcp/80")}})
	for _, n := range l.Nodes {
		n.Config.Mature = stormMature.String()
		n.Config.Services = maps.Clone(n.Config.Services)
		for i := range stormServices {
			s := web("sourceip", fmt.Sprintf("tcp/%d", 9000+i))
			s.Buckets = 64
			s.Check = map[string]any{"file": n.Path(stormName(i)), "interval": stormEvery.String(), "fall": 1, "rise": 1}
			n.Config.Services[stormName(i)] = s
			if err := os.WriteFile(n.Path(stormName(i)), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.StartAll(); err != nil {
		t.Fatal(err)
	}
	whole(t, l, formLimit)
	formed(t, l)
	return l
}

// rage has the files come and go until ctx ends, one service after another, so
// that each is another at each look.
func rage(ctx context.Context, l *lab.Lab) error {
	tick := time.NewTicker(stormEvery / stormServices)
	defer tick.Stop()
	for i := 0; ; i = (i + 1) % stormServices {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, n := range l.Nodes {
			file := n.Path(stormName(i))
			err := os.Remove(file)
			if errors.Is(err, os.ErrNotExist) {
				err = os.WriteFile(file, nil, 0o644)
			}
			if err != nil {
				return err
			}
		}
	}
}

// changesSeen counts the changes of health in a node's log.
func changesSeen(n *lab.Node) int {
	log := n.Log()
	return strings.Count(log, `msg="server is ill"`) + strings.Count(log, `msg="server is well"`)
}

// mostFalls is how often a node can be entered as lost to a service in a time,
// from rest: each time it has to do well for longer before it is given anything
// again, for half as long while nobody else serves.
func mostFalls(mature, within time.Duration) int {
	falls, at, hold := 1, time.Duration(0), mature/2
	for {
		if falls++; falls > 2 {
			hold *= 2
			at += hold
		}
		if at > within {
			return falls - 1
		}
	}
}

// A hundred changes of health per second on every node, for a minute. No
// bucket moves more often than the damping allows, and when a node is killed in
// the midst its clients are with others as soon as without the storm.
func TestAStormOfHealth(t *testing.T) {
	longStory(t)
	l := newStorm(t)
	operator, dead := followers(t, l)
	events := listen(t, operator)
	p := steady(l)
	p.Rate = 200
	news := generate(t, l, p)
	// A leader whose cluster has just begun gives slow nodes ten leases.
	if err := news.Await(int(10*storyLease.Seconds())*p.Rate, time.Minute); err != nil {
		t.Fatal(err)
	}
	calm := killed(t, operator, dead, news)
	told(t, events, "fail "+dead.Name) // so it listens
	if err := dead.Start(); err != nil {
		t.Fatal(err)
	}
	whole(t, l, formLimit)
	lab.Eventually(t, holdLimit, "it has its share", func() error {
		if own := ask(t, operator).service("web").owned(dead.Name); own < 341 {
			return fmt.Errorf("%d buckets", own)
		}
		return nil
	})

	wait(t, news) // and what it was given is told
	first, seen := len(events()), map[string]int{}
	for _, n := range l.Nodes {
		seen[n.Name] = changesSeen(n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), stormTime)
	defer cancel()
	began, raging := time.Now(), make(chan error, 1)
	go func() { raging <- rage(ctx, l) }()
	if err := news.AwaitMore(int(stormTime.Seconds()/2)*p.Rate, stormTime); err != nil {
		t.Fatal(err)
	}
	stormy := killed(t, operator, dead, news)
	if err := <-raging; err != nil {
		t.Fatal(err)
	}
	lasted := time.Since(began)
	for _, n := range l.Nodes {
		if n == dead {
			continue
		}
		rate := float64(changesSeen(n)-seen[n.Name]) / lasted.Seconds()
		t.Logf("%s saw %.0f changes of health per second", n.Name, rate)
		if rate < stormChanges {
			t.Errorf("%s saw only %.0f changes per second: no storm", n.Name, rate)
		}
	}
	judgeMoves(t, events()[first:], lasted)
	t.Logf("a kill's last client that waited began %v after it (%.2f leases), in the storm %v (%.2f)",
		calm, calm.Seconds()/storyLease.Seconds(), stormy, stormy.Seconds()/storyLease.Seconds())
	if stormy > calm+2*storyLease {
		t.Errorf("the storm delayed the failover: %v, without it %v", stormy, calm)
	}
	for _, r := range finish(t, "new connections", news) {
		if r.Failure == load.Refused {
			t.Errorf("refused: %s", r.Client)
		}
	}
}

// followers are two nodes that do not lead.
func followers(t *testing.T, l *lab.Lab) (a, b *lab.Node) {
	t.Helper()
	leader := ask(t, l.Nodes[0]).Cluster.Leader
	rest := slices.DeleteFunc(slices.Clone(l.Nodes), func(n *lab.Node) bool { return n.Name == leader })
	return rest[0], rest[1]
}

// killed kills a node and returns when, after that, the last connection of a
// client of its own began that had to wait: its SYN was lost.
func killed(t *testing.T, operator, dead *lab.Node, news *load.Run) time.Duration {
	t.Helper()
	owners, spec := ownersOf(t, operator, "web"), ask(t, operator).service("web")
	if err := dead.Kill(); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	shareBecomes(t, operator, dead.Name, func(own int) bool { return own == 0 })
	moved := time.Now()
	// Those that were on their way are answered by their next SYNs.
	lab.Eventually(t, takeOverLimit, "connections that begin later are answered", func() error {
		if records := news.Records().Since(moved); len(records) < 500 {
			return fmt.Errorf("%d of them", len(records))
		}
		return nil
	})
	wait(t, news)
	last := time.Duration(0)
	for _, r := range news.Records().Since(at) {
		theirs := spec.expect(owners, r.Client, webPort) == dead.Name
		if theirs && (r.Failure != "" || r.Latency >= 900*time.Millisecond) {
			last = max(last, r.Start.Sub(at))
		}
	}
	return last
}

// judgeMoves holds the moves of every bucket against what the damping allows.
// A bucket moves when a node falls, when one is well again, or dies: once each
// time at the most. The config says how often a node can fall.
func judgeMoves(t *testing.T, events []eventLine, within time.Duration) {
	t.Helper()
	falls := mostFalls(stormMature, within)
	most := 3*2*falls + 1 // three nodes fall and rise, one dies
	type what struct{ node, service string }
	fell, turns, moves := map[what]int{}, map[string]int{}, map[string]map[hashmode.Bucket]int{}
	for _, e := range events {
		switch e.Event {
		case "missed":
			t.Errorf("events are missing: %+v", e)
		case "fail":
			for i := range stormServices {
				turns[stormName(i)]++
			}
			turns["web"]++
		case "sick":
			fell[what{e.Node, e.Service}]++
			turns[e.Service]++
		case "well":
			turns[e.Service]++
		case "gain":
			set, err := hashmode.ParseSet(e.Buckets, 1024)
			if err != nil {
				t.Fatal(err)
			}
			if moves[e.Service] == nil {
				moves[e.Service] = map[hashmode.Bucket]int{}
			}
			for b := range set.All() {
				moves[e.Service][b]++
			}
		}
	}
	for w, n := range fell {
		if n > falls {
			t.Errorf("%s was entered as lost to %s %d times in %v; %d are possible", w.node, w.service, n, within, falls)
		}
	}
	for _, service := range slices.Sorted(maps.Keys(moves)) {
		worst := slices.Max(slices.Collect(maps.Values(moves[service])))
		t.Logf("%s: no bucket moved more than %d times; %d falls, rises and deaths allow %d, the config %d", service, worst, turns[service], turns[service], most)
		if worst > min(turns[service], most) {
			t.Errorf("%s: a bucket moved %d times", service, worst)
		}
	}
	if len(fell) < stormServices {
		t.Errorf("only %d of %d services fell anywhere", len(fell), stormServices)
	}
}

func TestMostFalls(t *testing.T) {
	for within, want := range map[time.Duration]int{0: 2, 4 * time.Second: 2, 6 * time.Second: 3, 16 * time.Second: 4, time.Minute: 5, 76 * time.Second: 6} {
		if got := mostFalls(5*time.Second, within); got != want {
			t.Errorf("within %v: %d, want %d", within, got, want)
		}
	}
}
