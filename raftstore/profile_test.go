package raftstore

import (
	"errors"
	"testing"
)

// format3 has what format 3 brought.
func format3() []Command {
	return []Command{
		byNetwork(),
		byLoad(),
		{Assign: &Assign{Epoch: 4, Moves: []Move{{Service: "web", Buckets: "0-1", To: "b"}}, Shares: map[string]map[string]Share{"web": {"a": {6, 1}, "b": {2, 1}}}}},
		{Profile: &Profile{Node: "a", ServerID: "id-a", Weight: 4}},
		{Profile: &Profile{Node: "a", ServerID: "id-a", Weight: 4, Prefer: map[string]string{"web": "0-3"}}},
		{Formed: &Formed{Term: 3}},
		{Credit: &Credit{Node: "a", Term: 3, Since: 9, Trust: true, Forgive: []string{"", "web"}}},
	}
}

func TestProfileIsForItsDataDirectoryAlone(t *testing.T) {
	s := three(t)
	enter := func(p Profile) (*State, error) { return s.Apply(s.Index+1, 3, Command{Profile: &p}) }
	next, err := enter(Profile{Node: "a", ServerID: "id-a", Weight: 0})
	if err != nil || next.Nodes["a"].Weight != 0 || next.Epoch != s.Epoch+1 {
		t.Errorf("weight %d, epoch %d after %d, %v", next.Nodes["a"].Weight, next.Epoch, s.Epoch, err)
	}
	if again, err := next.Apply(next.Index+1, 3, Command{Profile: &Profile{Node: "a", ServerID: "id-a"}}); err != nil || again.Epoch != next.Epoch {
		t.Errorf("the same again: epoch %d after %d, %v", again.Epoch, next.Epoch, err)
	}
	for _, c := range []struct {
		profile Profile
		want    error
	}{
		{Profile{Node: "a", ServerID: "before", Weight: 2}, ErrUnknownNode},
		{Profile{Node: "x", ServerID: "id-x", Weight: 2}, ErrUnknownNode},
		{Profile{Node: "a", ServerID: "id-a", Weight: -1}, ErrCommand},
		{Profile{Node: "a", ServerID: "id-a", Weight: MaxWeight + 1}, ErrCommand},
	} {
		if next, err := enter(c.profile); !errors.Is(err, c.want) || next.Epoch != s.Epoch {
			t.Errorf("%+v: %v", c.profile, err)
		}
	}
}

// A node that cannot read its weight joins with the one that is known.
func TestUnknownWeightIsTheOneThatTheClusterKnows(t *testing.T) {
	s := &Store{options: Options{Name: "a"}}
	s.state.Store(NewState())
	s.SetWeight(-1)
	if got := s.ownWeight(); got != 1 {
		t.Errorf("a new node has weight %d", got)
	}
	s.state.Store(must(t, three(t), Command{Profile: &Profile{Node: "a", ServerID: "id-a", Weight: 4}}))
	if got := s.ownWeight(); got != 4 {
		t.Errorf("a known node has weight %d", got)
	}
	s.SetWeight(0)
	if got := s.ownWeight(); got != 0 {
		t.Errorf("a last resort has weight %d", got)
	}
}
