package raftstore

import (
	"errors"
	"testing"
	"time"
)

// A restarting node can neither take a bucket nor say so: given one by hand, it
// would leave it without an opener until it is back, or dead (I2).
func TestARestartingNodeIsGivenNothingByHand(t *testing.T) {
	s := three(t)
	pin := Command{Pin: &Pin{Service: "web", Buckets: "7", Node: "b"}}
	s = must(t, s, Command{Rest: &Rest{Node: "b", For: 3 * time.Second}})
	if next, err := s.Apply(s.Index+1, 1, pin); !errors.Is(err, ErrNotServing) || next.Epoch != s.Epoch {
		t.Errorf("bucket 7 to a restarting node: %v, %+v", err, next.Services["web"].Map[7])
	}
	s = must(t, s, Command{Rest: &Rest{Node: "b"}})
	must(t, s, pin)
}
