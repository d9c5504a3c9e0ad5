package raftstore

import (
	"errors"
	"maps"
	"testing"
)

// byLoad is a service whose shares go by load.
func byLoad() Command {
	d := web(8)
	d.Balance = BalanceLoad
	return Command{Define: &Define{Definition: d, Seed: 7}}
}

func TestSharesAreKeptWithTheMovesThatMadeThem(t *testing.T) {
	s := replay(t, join("a"), join("b"), byLoad())
	s = must(t, s, assign(s, "0-7", "a"))
	keep := func(epoch uint64, shares map[string]Share) (*State, error) {
		return s.Apply(s.Index+1, 1, Command{Assign: &Assign{
			Epoch: epoch, Moves: []Move{{Service: "web", Buckets: "0-1", To: "b"}}, Shares: map[string]map[string]Share{"web": shares},
		}})
	}
	want := map[string]Share{"a": {6, 1}, "b": {2, 1}}
	for _, c := range []struct {
		epoch  uint64
		shares map[string]Share
		want   error
	}{
		{s.Epoch - 1, want, ErrStale},
		{s.Epoch, map[string]Share{"x": {2, 1}}, ErrUnknownNode},
		{s.Epoch, map[string]Share{"a": {-1, 1}}, ErrCommand},
	} {
		after, err := keep(c.epoch, c.shares)
		if !errors.Is(err, c.want) || after.Services["web"].Shares != nil || after.Services["web"].Map[0].Owner != "a" {
			t.Errorf("%+v: %v", c.shares, err)
		}
	}
	after, err := keep(s.Epoch, want)
	if err != nil || !maps.Equal(after.Services["web"].Shares, want) || after.format() != 3 {
		t.Fatalf("shares %v, %v", after.Services["web"].Shares, err)
	}
}

func TestBalanceIsOneOfTwo(t *testing.T) {
	d := web(8)
	d.Balance = "chance"
	if err := d.Check(nil); !errors.Is(err, ErrDefinition) {
		t.Errorf("balance by chance: %v", err)
	}
	s := replay(t, byLoad())
	if diffs := s.Services["web"].Differences(web(8)); len(diffs) != 1 || diffs[0] != "balance: load, not even" {
		t.Errorf("differences %q", diffs)
	}
}
