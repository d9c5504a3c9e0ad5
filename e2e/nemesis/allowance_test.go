package main

import (
	"testing"
	"time"

	"earshot/e2e/openings"
)

// Stalls of the machine are added to the bound; a long one may cost an election.
func TestAllowance(t *testing.T) {
	const lease, bound = 300 * time.Millisecond, 900 * time.Millisecond
	for want, stalls := range map[time.Duration][]openings.Interval{
		bound:                          nil,
		bound + 50*time.Millisecond:    {{To: 20 * time.Millisecond}, {From: time.Second, To: 1030 * time.Millisecond}},
		2*bound + 200*time.Millisecond: {{To: 200 * time.Millisecond}},
	} {
		if got := allowance(stalls, lease, bound); got != want {
			t.Errorf("%v: %v, want %v", stalls, got, want)
		}
	}
}

// I5: a command that was acknowledged is lost when its value is neither there
// nor that of a later one.
func TestWishes(t *testing.T) {
	w := wish{sure: ""}
	w.attempt("n1")
	w.acknowledged()
	w.attempt("n2")
	for value, want := range map[string]bool{"n1": true, "n2": true, "": false, "n3": false} {
		if w.allows(value) != want {
			t.Errorf("%q allowed: %v", value, !want)
		}
	}
	if w.found("n1"); w.allows("n2") {
		t.Error("an attempt that failed is still allowed")
	}
}
