package hashmode

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// model is a set of buckets as a map, to hold Set against.
type model map[Bucket]bool

func (m model) sorted() []Bucket { return slices.Sorted(maps.Keys(m)) }

func drawSet(t *rapid.T, name string) (Set, model) {
	var s Set
	m := model{}
	for _, b := range rapid.SliceOfN(rapid.Uint32Range(0, 300), 0, 80).Draw(t, name) {
		s.Add(Bucket(b))
		m[Bucket(b)] = true
	}
	for _, b := range rapid.SliceOfN(rapid.Uint32Range(0, 300), 0, 20).Draw(t, name+" without") {
		s.Remove(Bucket(b))
		delete(m, Bucket(b))
	}
	return s, m
}

func TestSetIsAsAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, m := drawSet(t, "set")
		u, n := drawSet(t, "other")
		if got := slices.Collect(s.All()); !slices.Equal(got, m.sorted()) || s.Len() != len(m) || s.Empty() != (len(m) == 0) {
			t.Fatalf("set %v, want %v", got, m.sorted())
		}
		union, minus, both := maps.Clone(m), maps.Clone(m), maps.Clone(m)
		maps.Copy(union, n)
		maps.DeleteFunc(minus, func(b Bucket, _ bool) bool { return n[b] })
		if got := slices.Collect(s.Union(u).All()); !slices.Equal(got, union.sorted()) {
			t.Fatalf("union %v, want %v", got, union.sorted())
		}
		if got := slices.Collect(s.Minus(u).All()); !slices.Equal(got, minus.sorted()) {
			t.Fatalf("minus %v, want %v", got, minus.sorted())
		}
		maps.DeleteFunc(both, func(b Bucket, _ bool) bool { return !n[b] })
		if got := slices.Collect(s.Intersect(u).All()); !slices.Equal(got, both.sorted()) {
			t.Fatalf("in both %v, want %v", got, both.sorted())
		}
		if s.Equal(u) != maps.Equal(m, n) {
			t.Fatalf("%v equal to %v: %v", s, u, s.Equal(u))
		}
		before := s.String()
		c := s.Clone()
		c.Add(299)
		c.Remove(0)
		if s.String() != before {
			t.Fatal("a clone's change shows in the set")
		}
	})
}

func TestSetTextReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, _ := drawSet(t, "set")
		back, err := ParseSet(s.String(), 301)
		if err != nil || !back.Equal(s) {
			t.Fatalf("%q reads back as %q (%v)", s, back, err)
		}
	})
}

func TestSetText(t *testing.T) {
	for text, want := range map[string]Set{
		"":            {},
		"7":           NewSet(7),
		"0-2":         Range(0, 2),
		"0-2,63-65":   Range(0, 2).Union(Range(63, 65)),
		"1,3,5-6,127": NewSet(1, 3, 5, 6, 127),
	} {
		if got := want.String(); got != text {
			t.Errorf("written as %q, want %q", got, text)
		}
	}
	for _, text := range []string{"x", "1-", "-1", "3-2", "1,,2", "128", "0-128", "1 2", "4294967296", ","} {
		if s, err := ParseSet(text, 128); !errors.Is(err, ErrSet) {
			t.Errorf("%q is read as %q (%v)", text, s, err)
		}
	}
}
