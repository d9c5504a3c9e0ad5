package coordinator

import (
	"slices"
	"testing"
	"time"

	"earshot/hashmode"
	"earshot/nft"
)

// A bucket that has just been released to b, which asks about each flow in it,
// goes on to c. Until c is there, and what came before is decided about, b goes
// on asking: nobody else hears its clients. It has released nothing till then (P13).
func TestABucketGivenOnAtOnceIsAskedAboutUntilItsHeirIsThere(t *testing.T) {
	h := newHistory(t)
	for _, n := range []string{"a", "b", "c"} {
		h.join(n, 1)
	}
	h.define("web", 2)
	h.pin("0-1", "a")
	h.pin("0", "b")
	web := map[string]hashmode.Set{"web": hashmode.NewSet(0)}
	first := desired(h.state, "b", knowledge{levels: released("a", 1000), fresh: web})
	if got := askingIn(h.state, "b", released("a", 1000), opened{}, first)["web"].String(); got != "0" {
		t.Fatalf("b asks about %q, want bucket 0", got)
	}
	if got := askingIn(h.state, "b", nil, opened{}, first)["web"].String(); got != "" {
		t.Fatalf("b asks about %q, which a has not released", got)
	}
	asks := opened{held: h.state.Index, taking: web, asking: web, answered: true}
	waits := asks
	waits.asking = nil
	h.pin("0", "c")
	moved := h.state.Index
	there := levels{"a": {1000, 1000}, "c": {moved, moved}}
	packet := nft.HeldPacket{Service: "web", Bucket: 0, Opens: true, Flow: flowOf(nft.TCP, "10.0.0.1:1")}
	replayed := asks
	replayed.answered = false
	for name, tc := range map[string]struct {
		know        levels
		opened      opened
		busy        map[string]hashmode.Set
		take, drain string
		released    uint64
	}{
		"c is not there":         {released("a", 1000), asks, nil, "0", "", moved - 1},
		"a may not have let go":  {nil, waits, nil, "0", "", moved - 1},
		"a lets go late":         {released("a", 1000), waits, nil, "0", "", moved - 1},
		"packets from before":    {there, asks, web, "0", "", moved - 1},
		"c is there":             {there, asks, nil, "", "0", moved},
		"b never asked about it": {released("a", 1000), opened{held: moved - 1, answered: true}, nil, "", "0", moved},
		"b replays its log":      {released("a", 1000), replayed, nil, "", "0", moved},
	} {
		rs := desired(h.state, "b", knowledge{levels: tc.know, opened: tc.opened, busy: tc.busy})
		s := rs.Services[0]
		if s.Take.String() != tc.take || s.Drain.String() != tc.drain || !s.Own.Union(s.Inherit).Empty() {
			t.Errorf("%s: take %q, drain %q, own %q, inherit %q", name, s.Take, s.Drain, s.Own, s.Inherit)
		}
		now := openedBy(rs)
		now.asking = askingIn(h.state, "b", tc.know, tc.opened, rs)
		if got := releasedUnder(h.state, "b", now); got != tc.released {
			t.Errorf("%s: released map %d, want %d", name, got, tc.released)
		}
		want := claimDrop
		switch {
		case tc.take != "" && tc.know == nil:
			want = claimWait
		case tc.take != "":
			want = claimAsk
		}
		got, whom := judgeHeld(h.state, "b", tc.know, now, packet)
		if slices.Sort(whom); got != want || want == claimAsk && !slices.Equal(whom, []string{"a", "c"}) {
			t.Errorf("%s: a held SYN is %v, asked of %v", name, got, whom)
		}
	}
}

// Only packets that came before the new owner did keep a bucket, be they on
// their way from the kernel still, and none keeps it for ever.
func TestPacketsFromBeforeAreDecidedAbout(t *testing.T) {
	h := newHistory(t)
	h.join("a", 1)
	h.join("b", 1)
	h.define("web", 2)
	h.pin("0-1", "a")
	o := opened{held: h.state.Index, buckets: map[string]hashmode.Set{"web": hashmode.NewSet(0, 1)}, answered: true}
	h.pin("0", "b")
	there := levels{"b": {h.state.Index, 0}}
	type look struct {
		know         levels
		after        time.Duration // since the look before
		last, judged nft.HeldID
		oldest       nft.HeldID // of bucket 0; 0: none
		want         string
	}
	const soon = 10 * time.Millisecond
	for name, looks := range map[string][]look{
		"nothing waits":                      {{there, 0, 7, 7, 0, ""}},
		"one from before":                    {{nil, 0, 7, 7, 7, ""}, {there, soon, 7, 7, 7, "0"}, {there, soon, 9, 9, 7, "0"}, {there, soon, 9, 9, 0, ""}},
		"one from after":                     {{there, 0, 7, 7, 5, "0"}, {there, soon, 8, 8, 8, ""}},
		"one is still unread":                {{there, 0, 8, 7, 0, "0"}, {there, soon, 9, 8, 8, "0"}, {there, soon, 10, 8, 0, ""}},
		"what is unread is another bucket's": {{there, 0, 8, 7, 0, "0"}, {there, soon, 9, 8, 0, ""}},
		"one is never read":                  {{there, 0, 8, 7, 0, "0"}, {there, holdLimit - 1, 8, 7, 0, "0"}, {there, 1, 8, 7, 0, ""}},
		"the new owner is gone for a while":  {{there, 0, 7, 7, 7, "0"}, {nil, soon, 8, 8, 7, ""}, {there, soon, 8, 8, 8, "0"}},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			var tc look
			p := parting{
				held: func() map[string]map[hashmode.Bucket]nft.HeldID {
					oldest := map[hashmode.Bucket]nft.HeldID{1: 1} // which stays
					if tc.oldest > 0 {
						oldest[0] = tc.oldest
					}
					return map[string]map[hashmode.Bucket]nft.HeldID{"web": oldest}
				},
				queued: func() (last, judged nft.HeldID) { return tc.last, tc.judged },
			}
			for i := range looks {
				tc = looks[i]
				now = now.Add(tc.after)
				got := p.look(h.state, "a", tc.know, o, now)["web"].String()
				if got != tc.want || p.waits != (tc.want != "") {
					t.Errorf("look %d: %q, want %q", i, got, tc.want)
				}
			}
		})
	}
}
