package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"earshot/coordinator"
)

// draining is a status in which n2 is out and has one bucket left.
func draining() coordinator.Status {
	return coordinator.Status{
		Nodes: []coordinator.NodeStatus{{Name: "n2", State: coordinator.StateDraining}},
		Services: []coordinator.ServiceStatus{{
			Name: "web", Buckets: 2, Nodes: []coordinator.ShareStatus{{Name: "n1", Own: "0-1"}, {Name: "n2", Drain: "1", Flows: 3}},
		}},
	}
}

func withState(state string) coordinator.Status {
	s := draining()
	s.Nodes[0].State = state
	return s
}

func TestDrainWatchEnds(t *testing.T) {
	away := errors.New("no agent")
	tests := []struct {
		name   string
		status coordinator.Status
		err    error
		want   string
		after  time.Duration
	}{
		{"node failed", withState(coordinator.StateFailed), nil, "n2 failed: its flows are lost", 0},
		{"node removed", coordinator.Status{}, nil, "n2 is no longer a node of the cluster", 0},
		{"node back in", withState(coordinator.StateIn), nil, "n2 is in: somebody has brought it back", drainPatience},
		{"agent away for long", coordinator.Status{}, away, "no agent", drainPatience},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var out bytes.Buffer
				d := drainWatch{node: "n2", w: &out, ask: func(context.Context) (coordinator.Status, error) { return tt.status, tt.err }}
				err := d.run(t.Context())
				if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
					t.Errorf("got %v, want %s", err, tt.want)
				}
				if got := time.Since(start); got < tt.after || got > tt.after+2*drainInterval {
					t.Errorf("ended after %v", got)
				}
			})
		})
	}
}

// The agent asked may be restarted meanwhile, or not have heard of the wish.
func TestDrainWatchIsPatient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ask := func(context.Context) (coordinator.Status, error) {
			switch passed := time.Since(start); {
			case passed < drainPatience/2:
				return withState(coordinator.StateIn), nil
			case passed < drainPatience:
				return draining(), nil
			case passed < 3*drainPatience/2:
				return coordinator.Status{}, coordinator.ErrNoAgent
			}
			s := withState(coordinator.StateOut)
			s.Services[0].Nodes[1] = coordinator.ShareStatus{Name: "n2"}
			return s, nil
		}
		var out bytes.Buffer
		d := drainWatch{node: "n2", w: &out, ask: ask}
		if err := d.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if want := "web: 1 bucket to drain, 3 flows left\nn2 holds nothing any more: 3 flows ended, none was given up\n"; out.String() != want {
			t.Errorf("got %q\nwant %q", out.String(), want)
		}
	})
}

func TestWhatBecameOfTheFlows(t *testing.T) {
	for name, tc := range map[string]struct {
		looks []coordinator.ShareStatus
		cut   bool
		want  string
	}{
		"they ended":           {[]coordinator.ShareStatus{{Drain: "1", Flows: 3, Closing: 1, DrainLeftMS: 60_000, OldestMS: 7_200_000}, {Drain: "1", Closing: 1, DrainLeftMS: 59_000}}, false, "web: 1 bucket to drain, 3 flows left and 1 closing (the oldest is 2h0m old, 1m until the limit)\nweb: 1 bucket to drain, 0 flows left and 1 closing (59s until the limit)\nn2 holds nothing any more: 4 flows ended, none was given up\n"},
		"the limit was over":   {[]coordinator.ShareStatus{{Drain: "1", Flows: 3, DrainLeftMS: 1_400}, {Drain: "1", Flows: 3, DrainLeftMS: 900}, {Drain: "1", Flows: 2, DrainLeftMS: 400}}, false, "web: 1 bucket to drain, 3 flows left (1s until the limit)\nweb: 1 bucket to drain, 2 flows left (0s until the limit)\nn2 holds nothing any more: 1 flow ended, 2 were given up at the limit\n"},
		"nobody waits":         {[]coordinator.ShareStatus{{Drain: "1", Flows: 3}}, true, "web: 1 bucket to drain, 3 flows left\nn2 holds nothing any more: 3 flows given up\n"},
		"there were none":      {[]coordinator.ShareStatus{{Drain: "1"}}, false, "web: 1 bucket to drain, 0 flows left\nn2 holds nothing any more: it had no flows left\n"},
		"nothing to be waited": {nil, false, "n2 holds nothing any more: it had no flows left\n"},
	} {
		synctest.Test(t, func(t *testing.T) {
			ask := func(context.Context) (coordinator.Status, error) {
				s := withState(coordinator.StateOut)
				share := coordinator.ShareStatus{}
				if len(tc.looks) > 0 {
					share, tc.looks = tc.looks[0], tc.looks[1:]
				}
				share.Name = "n2"
				s.Services[0].Nodes[1] = share
				return s, nil
			}
			var out bytes.Buffer
			d := drainWatch{node: "n2", w: &out, cut: tc.cut, ask: ask}
			if err := d.run(t.Context()); err != nil || out.String() != tc.want {
				t.Errorf("%s: %v, got\n%swant\n%s", name, err, out.String(), tc.want)
			}
		})
	}
}

func TestDrainWatchInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, interrupt := context.WithTimeout(t.Context(), 3*time.Second)
		defer interrupt()
		var out bytes.Buffer
		d := drainWatch{node: "n2", w: &out, redraw: true, ask: func(context.Context) (coordinator.Status, error) { return draining(), nil }}
		err := d.run(ctx)
		if err == nil || err.Error() != "interrupted: n2 stays out and drains on" || !strings.Contains(hintOf(err), "earshot out n2 --wait") {
			t.Errorf("got %v, hint %q", err, hintOf(err))
		}
		// One line, written over itself, and ended before the error comes.
		if want := "\rweb: 1 bucket to drain, 3 flows left\x1b[K\n"; out.String() != want {
			t.Errorf("got %q", out.String())
		}
	})
}
