package openings

import (
	"slices"
	"testing"
	"time"
)

// A bucket goes from n1 to n2, which has held what came since before; back to
// n1, which holds nothing; and to n3, before n1 has closed it.
func TestHandoffs(t *testing.T) {
	n1, n2, n3 := newTimeline(), newTimeline(), newTimeline()
	n1.hold(first, ms(0), true)
	n2.take(first, ms(90), true)
	n1.hold(first, ms(100), false)
	n2.take(first, ms(130), false)
	n2.hold(first, ms(130), true)
	n2.hold(first, ms(200), false)
	n1.hold(first, ms(207), true)
	n3.hold(first, ms(295), true)
	n1.hold(first, ms(300), false)
	n3.hold(first, ms(400), false) // to nobody yet
	at := func(n int) Moment { return ms(n).middle() }
	want := []Handoff{
		{Place: first, From: "n1", To: "n2", At: at(100), Gap: 30 * time.Millisecond},
		{Place: first, From: "n2", To: "n1", At: at(200), Gap: 7 * time.Millisecond, Unheard: 7 * time.Millisecond},
		{Place: first, From: "n1", To: "n3", At: at(300), Gap: -5 * time.Millisecond},
	}
	r := Record{"n1": n1, "n2": n2, "n3": n3}
	if got := r.Handoffs([]Place{first, {echo, 7}}); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	n3.hold(first, ms(450), true)
	if got := r.Handoffs([]Place{first}); !slices.Equal(got, want) {
		t.Errorf("a node that has it again: %+v", got)
	}
}
