package raftstore

import (
	"errors"
	"maps"
	"reflect"
	"testing"
)

// grown is a cluster that has formed.
func grown(t *testing.T) *State { return must(t, three(t), Command{Formed: &Formed{Term: 1}}) }

func TestNodesThatFormAClusterAreTrusted(t *testing.T) {
	s := three(t)
	die := func(s *State) *State {
		s, err := s.Apply(s.Index+1, 1, Command{Death: &Death{Node: "b", Term: 1, Epoch: s.Epoch}})
		if err != nil {
			t.Fatal(err)
		}
		return must(t, s, Command{Return: &Return{Node: "b", Term: 1}})
	}
	if n := die(s).Nodes["b"]; n.Held || n.Losses != nil {
		t.Errorf("before the cluster has formed: %+v", n)
	}
	if n := die(grown(t)).Nodes["b"]; !n.Held || n.Losses[""] != 1 {
		t.Errorf("after: %+v", n)
	}
	s = must(t, grown(t), Command{Join: &Join{Name: "d", ServerID: "id-d", Listen: "d", Weight: 1}})
	s = must(t, s, Command{Join: &Join{Name: "w", ServerID: "id-w", Listen: "w", Weight: 1, Witness: true}})
	if !s.Nodes["d"].Held || s.Nodes["w"].Held {
		t.Errorf("newcomers: %+v", s.Nodes)
	}
	s = must(t, s, Command{Join: &Join{Name: "a", ServerID: "other", Listen: "a", Weight: 1}})
	if !s.Nodes["a"].Held {
		t.Error("a node with a new disk is trusted")
	}
	if s = must(t, s, Command{Wish: &Wish{Node: "a"}}); s.Nodes["a"].Held {
		t.Error("the operator does not bring it in")
	}
}

func TestLossesOfAServiceAreCounted(t *testing.T) {
	s := grown(t)
	ill := func(services ...string) {
		unfit := map[string]string{}
		for _, service := range services {
			unfit[service] = "ill"
		}
		s = must(t, s, Command{Fitness: &Fitness{Node: "a", Unfit: unfit}})
	}
	ill("web")
	ill("web", "dns") // web is ill still
	ill()
	ill("web")
	if got := s.Nodes["a"].Losses; !maps.Equal(got, map[string]int{"web": 2, "dns": 1}) {
		t.Errorf("losses %v", got)
	}
	for range 20 {
		ill()
		ill("web")
	}
	if got := s.Nodes["a"].Losses["web"]; got != mostLosses {
		t.Errorf("%d losses", got)
	}
}

// P7: what rests on a leader's clock does nothing in another term, nor for
// another incarnation of the node.
func TestCreditIsForItsTermAndItsIncarnation(t *testing.T) {
	s := grown(t)
	n := s.Nodes["a"]
	n.Held, n.Losses = true, map[string]int{"": 2, "web": 1}
	s.Nodes["a"] = n
	for _, c := range []struct {
		credit Credit
		want   error
	}{
		{Credit{Node: "a", Term: 2, Since: n.Changed, Trust: true}, ErrTerm},
		{Credit{Node: "a", Term: 1, Since: n.Changed + 1, Trust: true}, ErrStale},
		{Credit{Node: "x", Term: 1, Trust: true}, ErrUnknownNode},
	} {
		if after, err := s.Apply(s.Index+1, 1, Command{Credit: &c.credit}); !errors.Is(err, c.want) || !after.Nodes["a"].Held {
			t.Errorf("%+v: %v", c.credit, err)
		}
	}
	if _, err := s.Apply(s.Index+1, 1, Command{Formed: &Formed{Term: 2}}); !errors.Is(err, ErrTerm) {
		t.Errorf("formed in another term: %v", err)
	}
	after := must(t, s, Command{Credit: &Credit{Node: "a", Term: 1, Since: n.Changed, Forgive: []string{"", "web"}}})
	if got := after.Nodes["a"]; !got.Held || !maps.Equal(got.Losses, map[string]int{"": 1}) {
		t.Errorf("forgiven: %+v", got)
	}
	after = must(t, after, Command{Credit: &Credit{Node: "a", Term: 1, Since: n.Changed, Trust: true, Forgive: []string{""}}})
	if got := after.Nodes["a"]; got.Held || got.Losses != nil {
		t.Errorf("trusted: %+v", got)
	}
}

func TestGoldenSnapshotOfConduct(t *testing.T) {
	s := must(t, grown(t), Command{Join: &Join{Name: "d", ServerID: "id-d", Listen: "d", Weight: 1, Reads: 3}})
	s = must(t, s, Command{Fitness: &Fitness{Node: "a", Unfit: map[string]string{"web": "no carrier"}}})
	s = must(t, s, Command{Profile: &Profile{Node: "a", ServerID: "id-a", Weight: 4, Prefer: map[string]string{"web": "0-3"}}})
	s = must(t, s, Command{Assign: &Assign{
		Epoch: s.Epoch, Moves: []Move{{Service: "web", Buckets: "0-1", To: "b"}}, Shares: map[string]map[string]Share{"web": {"a": {6, 1}, "b": {2, 1}}},
	}})
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want := golden(t, "snapshot-3-conduct.json", data)
	if string(want) != string(data) {
		t.Errorf("a snapshot is written\n%s\nnot, as in version 3,\n%s", data, want)
	}
	got, err := DecodeState(want)
	if err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("a snapshot of version 3 is read as %+v, %v", got, err)
	}
}

// One that cannot read the state is not let in, and what an older member could
// not read is not written.
func TestFormationDoesNotEndBesideAnOlderMember(t *testing.T) {
	s := three(t)
	if err := s.readable(Command{Formed: &Formed{Term: 1}}, nil); !errors.Is(err, ErrOldMember) {
		t.Errorf("formed: %v", err)
	}
	if got := grown(t).format(); got != 3 {
		t.Errorf("a cluster that has formed has format %d", got)
	}
	if _, err := admit(grown(t), nil, request{Join: Join{Name: "n8", ServerID: "id8", Listen: at(8), Reads: 2}}); !errors.Is(err, ErrTooOld) {
		t.Errorf("an older node joins: %v", err)
	}
}
