package health

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// story is answers in a row, "+" and "-", and the states after each: "?" for
// unknown, "w" for well, "i" for ill. The answers are a second apart.
type story struct {
	name            string
	rules           Rules
	answers, states string
}

func TestVerdict(t *testing.T) {
	for _, tt := range []story{
		{"the first success decides", Rules{Fall: 3, Rise: 3}, "+", "w"},
		{"failures in a row", Rules{Fall: 3, Rise: 1}, "+---", "wwwi"},
		{"a success between failures", Rules{Fall: 3, Rise: 1}, "+--+--", "wwwwww"},
		{"unknown falls as well", Rules{Fall: 2, Rise: 1}, "--", "?i"},
		{"one failure is enough", Rules{Fall: 1, Rise: 1}, "-+-", "iwi"},
		{"successes in a row", Rules{Fall: 1, Rise: 3}, "-+++", "iiiw"},
		{"a failure between successes", Rules{Fall: 1, Rise: 3}, "-++-++", "iiiiii"},
		{"risen, it falls only after all failures again", Rules{Fall: 2, Rise: 2}, "--++-", "?iiww"},
		{"grace: failures do not count", Rules{Fall: 2, Rise: 1, Grace: 3 * time.Second}, "-----", "????i"},
		{"grace: a success ends it", Rules{Fall: 2, Rise: 1, Grace: time.Minute}, "-+--", "?wwi"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var v Verdict
			var states strings.Builder
			for i, answer := range tt.answers {
				var err error
				if answer == '-' {
					err = errors.New("no")
				}
				v = v.Next(err, time.Duration(i)*time.Second, tt.rules)
				states.WriteByte("?wi"[v.State])
				if (v.Reason == "") == (v.State == Ill) {
					t.Errorf("%v for the reason %q", v.State, v.Reason)
				}
			}
			if states.String() != tt.states {
				t.Errorf("states %s, not %s", &states, tt.states)
			}
		})
	}
}

// The reason is the one of the fall: the cluster hears of an illness once.
func TestTheReasonStays(t *testing.T) {
	r := Rules{Fall: 2, Rise: 2}
	v := Verdict{State: Well}
	for _, why := range []string{"refused", "hangs", "refused again"} {
		v = v.Next(errors.New(why), time.Hour, r)
	}
	if v.State != Ill || v.Reason != "hangs" {
		t.Errorf("%v: %q", v.State, v.Reason)
	}
}

func TestReasonsAreShortLines(t *testing.T) {
	v := Verdict{}.Next(errors.New("a\x00b\n"+strings.Repeat("ü", 500)), 0, Rules{Fall: 1, Rise: 1})
	if len(v.Reason) > maxReason+4 || !strings.HasPrefix(v.Reason, "a b ü") || !strings.HasSuffix(v.Reason, "ü…") {
		t.Errorf("%d bytes: %q", len(v.Reason), v.Reason)
	}
}

func TestAllChecksMustPass(t *testing.T) {
	well, ill, unknown := Verdict{State: Well}, Verdict{State: Ill, Reason: "no"}, Verdict{}
	for _, tt := range []struct {
		verdicts []Verdict
		want     State
	}{
		{[]Verdict{well, well}, Well},
		{[]Verdict{well, unknown}, Unknown},
		{[]Verdict{well, ill}, Ill},
		{[]Verdict{unknown, ill}, Ill},
		{[]Verdict{ill, well}, Ill},
	} {
		if got := all(tt.verdicts); got.State != tt.want || (got.Reason == "") == (got.State == Ill) {
			t.Errorf("%v: %+v", tt.verdicts, got)
		}
	}
}
