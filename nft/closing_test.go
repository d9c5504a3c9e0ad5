package nft

import (
	"testing"

	"earshot/hashmode"
)

// A bucket is being closed from when it drains until the barrier after that, as
// long as it drains.
func TestClosing(t *testing.T) {
	none := hashmode.Set{}
	w := newWorld(t)
	p := w.plane()
	index := uint64(0)
	step := func(own, inherit, drain, take hashmode.Set, want string) {
		t.Helper()
		index++
		s := web(own, inherit, drain)
		s.Take = take
		must(t, p.Apply(Ruleset{Index: index, Hold: true, Services: []Service{s}}))
		if got := w.kernel().buckets[setID{inet, setClosing(s.Name)}]; got.String() != want {
			t.Errorf("map %d: closing %q, want %q", index, got, want)
		}
	}
	step(buckets(0, 3), buckets(4, 5), none, buckets(6, 7), "")
	step(buckets(1, 3), buckets(5, 5), buckets(8, 9).Union(buckets(0, 0)).Union(buckets(4, 4)), buckets(7, 7), "0,4") // 8 and 9 were others'
	step(buckets(1, 3), buckets(5, 5), buckets(4, 4).Union(buckets(7, 9)), buckets(0, 0), "4,7")                      // 0 is to come back
	must(t, p.Barrier())
	step(buckets(2, 3), buckets(5, 5), buckets(4, 4).Union(buckets(7, 9)).Union(buckets(1, 1)), none, "1")
	step(buckets(2, 3), none, none, none, "") // dead: it drains nothing
	must(t, p.Barrier())
	step(none, none, buckets(2, 3), none, "2-3")
	p.Resync() // nobody waits for it: what is read anew is not given away just now
	step(none, none, buckets(2, 3), none, "")
}
