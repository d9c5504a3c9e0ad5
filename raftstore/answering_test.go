package raftstore

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"testing"
)

func TestWhoAnswers(t *testing.T) {
	s := three(t)
	for _, tt := range []struct {
		name     string
		unfit    map[string]Fitness
		want     []string
		forsaken bool
	}{
		{"all are fit", nil, []string{"a", "b", "c"}, false},
		{"some are ill", map[string]Fitness{"a": {Spare: map[string]bool{"web": true}}}, []string{"b", "c"}, false},
		{"all are ill", map[string]Fitness{
			"a": {Spare: map[string]bool{"web": false}}, "b": {Spare: map[string]bool{"web": false}}, "c": {},
		}, []string{"a", "b"}, true},
		{"one passes the lighter check", map[string]Fitness{
			"a": {Spare: map[string]bool{"web": false}}, "b": {Spare: map[string]bool{"web": true}}, "c": {},
		}, []string{"b"}, false},
		{"all are deaf", map[string]Fitness{"a": {}, "b": {}, "c": {}}, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st := s
			for _, node := range slices.Sorted(maps.Keys(tt.unfit)) {
				f := tt.unfit[node]
				f.Node, f.Unfit = node, map[string]string{"web": "no"}
				st = must(t, st, Command{Fitness: &f})
			}
			if got := slices.Sorted(maps.Keys(st.Answering("web"))); !slices.Equal(got, tt.want) {
				t.Errorf("%v, not %v", got, tt.want)
			}
			if got := st.Forsaken("web"); got != tt.forsaken {
				t.Errorf("forsaken: %v", got)
			}
			for _, node := range []string{"a", "b", "c"} {
				_, err := st.Apply(99, 1, Command{Pin: &Pin{Service: "web", Buckets: "0", Node: node}})
				if refused := errors.Is(err, ErrNotServing); refused == slices.Contains(tt.want, node) {
					t.Errorf("a bucket for %s: %v", node, err)
				}
			}
		})
	}
}

// What old members cannot read takes the newer format, and comes back as it was.
func TestSpareIsOfFormat3(t *testing.T) {
	plain := Command{Fitness: &Fitness{Node: "a", Unfit: map[string]string{"web": "no"}}}
	spare := Command{Fitness: &Fitness{Node: "a", Unfit: map[string]string{"web": "no"}, Spare: map[string]bool{"web": false}}}
	if plain.format() != 1 || spare.format() != 3 {
		t.Errorf("formats %d and %d", plain.format(), spare.format())
	}
	s := must(t, three(t), spare)
	if s.format() != 3 {
		t.Errorf("a state with it has format %d", s.format())
	}
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeState(data); err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("read as %+v, %v", got, err)
	}
}

// A service is refused only if that is its wish and nobody can answer for it.
func TestFallbackIsOneOfTwo(t *testing.T) {
	d := web(8)
	d.Fallback = "hope"
	if err := d.Check(nil); !errors.Is(err, ErrDefinition) {
		t.Errorf("fallback to hope: %v", err)
	}
	d.Fallback = FallbackRefuse
	c := Command{Define: &Define{Definition: d, Seed: 7}}
	s := replay(t, c)
	if c.format() != 3 || s.format() != 3 {
		t.Errorf("formats %d, %d", c.format(), s.format())
	}
	if diffs := s.Services["web"].Differences(web(8)); len(diffs) != 1 || diffs[0] != "fallback: refuse, not keep" {
		t.Errorf("differences %q", diffs)
	}
	if !s.Refuses("web") {
		t.Error("without any node it is not refused")
	}
	s = must(t, s, Command{Join: &Join{Name: "a", ServerID: "1", Listen: "a", Weight: 1}})
	if s.Refuses("web") || three(t).Refuses("web") {
		t.Error("it is refused though a node serves it")
	}
}
