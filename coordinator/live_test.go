package coordinator

import (
	"context"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"earshot/hashmode"
	"earshot/raftstore"
)

// What a node says of itself changes with its config, while it runs: the weight
// from a number to another and to a file's, and the buckets that it prefers.
func TestWeightAndPreferencesAreReloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReader(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx, newIdleListener(), func() {}) }()
		reloads := func(keys ...string) {
			t.Helper()
			got, err := r.Reload()
			if err != nil || !slices.Equal(got.Changed, keys) || len(got.Restart)+len(got.Apply) > 0 {
				t.Fatalf("%+v, %v, want %q changed", got, err, keys)
			}
		}
		committed := func(weight int, prefer string) {
			t.Helper()
			time.Sleep(weighEvery + time.Second)
			n := r.store.State().Nodes["a"]
			if n.Weight != weight || n.Prefer["web"] != prefer {
				t.Errorf("weight %d, prefers %q; want %d, %q", n.Weight, n.Prefer, weight, prefer)
			}
		}
		fixed := func(n int) func() (int, error) { return func() (int, error) { return n, nil } }
		committed(1, "")
		r.say("weight", "5")
		r.next.Weight = fixed(5)
		reloads("weight")
		committed(5, "")
		file := &gauge{weight: 7}
		r.say("weight", "file:/run/weight")
		r.next.Weight = file.read
		reloads("weight")
		committed(7, "")
		file.set(8, nil)
		committed(8, "")
		r.say("weight", "2")
		r.say("services.web.prefer", "0-2")
		r.next.Weight, r.next.Prefer = fixed(2), map[string]string{"web": "0-2"}
		reloads("services.web.prefer", "weight")
		file.set(9, nil)
		committed(2, "0-2")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A leader goes by the damping of the config as it was last read, at once: for
// holds, and for the round that is running.
func TestDampingIsReloaded(t *testing.T) {
	r := newReader(t)
	r.next.Damping = Damping{Mature: time.Minute, Round: time.Second, MovesPerRound: 8}
	for _, key := range []string{"mature", "round", "moves_per_round"} {
		r.say(key, "other")
	}
	got, err := r.Reload()
	if err != nil || !reflect.DeepEqual(got.Changed, []string{"mature", "moves_per_round", "round"}) {
		t.Fatalf("%+v, %v", got, err)
	}
	l, now := r.leader, time.Now()
	l.term = testTerm
	l.ledger.begin(testTerm, now, 0)
	r.must(raftstore.Command{Formed: &raftstore.Formed{Term: testTerm}})
	r.must(raftstore.Command{Join: &raftstore.Join{Name: "b", ServerID: "id-b", Listen: "b:7440", Weight: 1}})
	l.ledger.tenants = map[string]*tenancy{"b": {serverID: "id-b", until: now.Add(time.Hour), conduct: conduct{since: now}}}
	held := func() time.Duration { return l.ledger.holds(now, r.state)["b"][""].Sub(now) }
	if got := held(); got != time.Minute {
		t.Errorf("held for %v", got)
	}
	l.heed(l.ledger.damping.get())
	l.pace.moved = []evened{{at: now, service: "web", buckets: hashmode.Range(0, 5)}}
	if way := l.pace.leeway(now); way.left("web") != 2 {
		t.Errorf("%d more may move", way.left("web"))
	}
	l.idle = r.state
	l.heed(l.ledger.damping.get())
	if l.idle == nil {
		t.Error("the same damping has it plan again")
	}
	r.next.Damping = Damping{Mature: time.Second, Round: time.Second, MovesPerRound: 20}
	if _, err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	l.heed(l.ledger.damping.get())
	if got := held(); got != time.Second {
		t.Errorf("held for %v", got)
	}
	if way := l.pace.leeway(now); way.left("web") != 14 || l.idle != nil {
		t.Errorf("%d more may move; idle: %v", way.left("web"), l.idle != nil)
	}
}
