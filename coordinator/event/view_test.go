package event

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"earshot/hashmode"
)

func set(t *testing.T, text string) hashmode.Set {
	t.Helper()
	s, err := hashmode.ParseSet(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func buckets(first, last hashmode.Bucket) hashmode.Set { return hashmode.Range(first, last) }

// standing is a view of three nodes in good order, as a sees it. Each call
// makes a value of its own.
func standing() View {
	return View{
		Self: "a", Epoch: 7, Leader: "a", Quorum: true, Lease: true,
		Nodes: map[string]Node{"a": {Disk: "1"}, "b": {Disk: "2"}, "c": {Disk: "3"}},
		Services: map[string]Service{"web": {
			Definition: map[string]string{"hash": "sourceip", "ports": "[tcp/80]"},
			Hash:       hashmode.Spec{Mode: hashmode.SourceIP, Buckets: 6, Seed: 1},
			Shares:     map[string]Share{"a": {Open: buckets(0, 1)}, "b": {Open: buckets(2, 3)}, "c": {Open: buckets(4, 5)}},
		}},
	}
}

// say writes events in short.
func say(events []Event) string {
	var all []string
	for _, e := range events {
		var parts []string
		for _, p := range []string{string(e.Type), e.Node, e.Service, e.Buckets} {
			if p != "" {
				parts = append(parts, p)
			}
		}
		text := strings.Join(parts, " ")
		if e.Reason != "" {
			text += " (" + e.Reason + ")"
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}

func TestDerive(t *testing.T) {
	node := func(v *View, name string, edit func(*Node)) {
		n := v.Nodes[name]
		edit(&n)
		v.Nodes[name] = n
	}
	web := func(v *View, edit func(*Service)) {
		s := v.Services["web"]
		edit(&s)
		v.Services["web"] = s
	}
	tests := []struct {
		name   string
		before func(*View)
		after  func(*View)
		want   string
	}{
		{name: "nothing"},
		{name: "a later map that changes nothing", after: func(v *View) { v.Epoch++ }},
		{name: "join", after: func(v *View) { v.Nodes["d"] = Node{Disk: "4"} }, want: "join d"},
		{name: "a node that joins out", after: func(v *View) { v.Nodes["d"] = Node{Out: true} }, want: "join d; out d"},
		{name: "another disk", after: func(v *View) { node(v, "b", func(n *Node) { n.Disk = "9" }) }, want: "join b (with an empty disk)"},
		{name: "death", after: func(v *View) {
			node(v, "c", func(n *Node) { n.Failed = true })
			web(v, func(s *Service) {
				s.Shares = map[string]Share{"a": {Open: set(t, "0-1,4")}, "b": {Open: set(t, "2-3,5")}}
			})
		}, want: "fail c; lose c web 4-5 (the node failed); gain a web 4; gain b web 5"},
		{name: "back", before: func(v *View) { node(v, "c", func(n *Node) { n.Failed = true }) }, want: "back c"},
		{name: "out, with a handoff", after: func(v *View) {
			node(v, "c", func(n *Node) { n.Out = true })
			web(v, func(s *Service) {
				s.Shares = map[string]Share{"a": {Open: set(t, "0-1,4")}, "b": {Open: set(t, "2-3,5")}, "c": {Drain: set(t, "4-5")}}
			})
		}, want: "out c; lose c web 4-5 (the node is out); drain c web 4-5; gain a web 4; gain b web 5"},
		{name: "in", before: func(v *View) { node(v, "c", func(n *Node) { n.Out = true }) }, want: "in c"},
		{name: "the end of a drain", before: func(v *View) {
			web(v, func(s *Service) {
				s.Shares["b"] = Share{Open: buckets(2, 3), Drain: buckets(0, 1)}
			})
		}, want: "drained b web 0-1"},
		{name: "sick", after: func(v *View) {
			node(v, "b", func(n *Node) { n.Sick = map[string]string{"web": "no carrier"} })
			web(v, func(s *Service) { s.Shares["b"] = Share{} })
		}, want: "sick b web (no carrier); lose b web 2-3 (no carrier)"},
		{name: "another illness",
			before: func(v *View) { node(v, "b", func(n *Node) { n.Sick = map[string]string{"web": "no carrier"} }) },
			after:  func(v *View) { node(v, "b", func(n *Node) { n.Sick = map[string]string{"web": "status 500"} }) },
			want:   "sick b web (status 500)"},
		{name: "well", before: func(v *View) { node(v, "b", func(n *Node) { n.Sick = map[string]string{"web": "no carrier"} }) }, want: "well b web"},
		{name: "forgotten", after: func(v *View) {
			delete(v.Nodes, "c")
			web(v, func(s *Service) { delete(s.Shares, "c") })
		}, want: "leave c; lose c web 4-5 (the node was forgotten)"},
		{name: "leader", after: func(v *View) { v.Leader = "b" }, want: "leader b"},
		{name: "no leader is no event", after: func(v *View) { v.Leader = "" }},
		{name: "quorum lost", after: func(v *View) { v.Quorum, v.Lease, v.Silence = false, false, "nobody answers" },
			want: "no_quorum a (nobody answers); no_lease a (nobody answers)"},
		{name: "quorum regained", before: func(v *View) { v.Quorum, v.Lease = false, false }, want: "quorum a; lease a"},
		{name: "repair", after: func(v *View) { v.Repairs += 2 }, want: "repair a"},
		{name: "warnings", before: func(v *View) { v.Warnings = []string{"one", "two"} }, after: func(v *View) { v.Warnings = []string{"two", "three"} },
			want: "warning (three); cleared (one)"},
		{name: "a warning with other figures", before: func(v *View) { v.Warnings = []string{"n1: 7 of 10"} }, after: func(v *View) { v.Warnings = []string{"n1: 12 of 100"} }},
		{name: "the same of another node", before: func(v *View) { v.Warnings = []string{"n1: 7"} }, after: func(v *View) { v.Warnings = []string{"n1: 7", "n2: 7"} },
			want: "warning (n2: 7)"},
		{name: "define", after: func(v *View) {
			v.Services["dns"] = Service{Shares: map[string]Share{"b": {Open: buckets(0, 3)}}}
		}, want: "define dns; gain b dns 0-3"},
		{name: "remove", after: func(v *View) { delete(v.Services, "web") },
			want: "remove web; lose a web 0-1 (the service was removed); lose b web 2-3 (the service was removed); lose c web 4-5 (the service was removed)"},
		{name: "change", after: func(v *View) {
			web(v, func(s *Service) { s.Definition = map[string]string{"hash": "sourceip", "ports": "[tcp/443 tcp/80]"} })
		}, want: "change web (ports: [tcp/80] → [tcp/443 tcp/80])"},
		{name: "another hash makes other buckets", before: func(v *View) {
			web(v, func(s *Service) { s.Shares = map[string]Share{"a": {Open: buckets(0, 5)}, "b": {Drain: buckets(0, 1)}} })
		}, after: func(v *View) {
			web(v, func(s *Service) {
				s.Definition = map[string]string{"hash": "sourceip-sourceport", "ports": "[tcp/80]"}
				s.Hash.Mode = hashmode.SourceIPSourcePort
				s.Shares = map[string]Share{"a": {Open: buckets(0, 5)}, "b": {Drain: buckets(0, 5)}}
			})
		}, want: "change web (hash: sourceip → sourceip-sourceport); lose a web 0-5 (the service's hash changed); drain b web 0-5; gain a web 0-5"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before, after := standing(), standing()
			if tt.before != nil {
				tt.before(&before)
			}
			if tt.after != nil {
				tt.after(&after)
			}
			events := Derive(before, after)
			if got := say(events); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			for _, e := range events {
				if e.By != "a" || e.Epoch != after.Epoch || e.Buckets != "" && e.Count == 0 {
					t.Errorf("%+v", e)
				}
			}
		})
	}
}

// Every type of event but those that are no difference of views is derived
// above, and documented.
func TestTypesAreStable(t *testing.T) {
	want := "[join leave fail back out in sick well leader quorum no_quorum lease no_lease define change remove gain lose drain drained repair warning cleared reload missed]"
	if got := fmt.Sprint(Types()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Deriving changes neither view: both are used again.
func TestDeriveLeavesViewsAlone(t *testing.T) {
	before, after := standing(), standing()
	after.Nodes["d"] = Node{}
	delete(after.Services, "web")
	Derive(before, after)
	if !reflect.DeepEqual(before, standing()) {
		t.Errorf("before is now %+v", before)
	}
	if got := slices.Sorted(maps.Keys(after.Nodes)); len(got) != 4 || len(after.Services) != 0 {
		t.Errorf("after is now %+v", after)
	}
}
