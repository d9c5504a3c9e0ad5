package coordinator

import (
	"errors"
	"strings"
	"testing"
	"time"

	"earshot/raftstore"
)

// given is a cluster of a, b and c of weight 1 in which all eight buckets went
// from a to b, and a, which has flows there still, restarts.
func given(t *testing.T) *history {
	h := newHistory(t)
	for _, n := range []string{"a", "b", "c"} {
		h.join(n, 1)
	}
	h.define("web", 8)
	h.pin("0-7", "a")
	h.pin("0-7", "b")
	h.pin("0-7", "")
	h.must(raftstore.Command{Rest: &raftstore.Rest{Node: "a", For: 10 * time.Second, By: 1}})
	return h
}

// TestABucketStaysWhileAFormerOwnerRestarts: who has it next would wait for the
// release of a node that can release nothing, and hold all that opens flows.
func TestABucketStaysWhileAFormerOwnerRestarts(t *testing.T) {
	for name, happens := range map[string]func(h *history){
		"evening out":    func(*history) {},
		"its owner goes": func(h *history) { h.must(raftstore.Command{Wish: &raftstore.Wish{Node: "b", Out: true}}) },
		"its owner ills": func(h *history) {
			h.must(raftstore.Command{Fitness: &raftstore.Fitness{Node: "b", Unfit: map[string]string{"web": "ill"}}})
		},
		"another prefers": func(h *history) {
			h.must(raftstore.Command{Profile: &raftstore.Profile{Node: "c", ServerID: "id-c", Weight: 1, Prefer: map[string]string{"web": "0-3"}}})
		},
	} {
		h := given(t)
		happens(h)
		if moves := h.replan(); len(moves) > 0 {
			t.Errorf("%s: moves %v while a restarts", name, moves)
		}
		h.must(raftstore.Command{Rest: &raftstore.Rest{Node: "a"}})
		if moves := h.replan(); len(moves) == 0 {
			t.Errorf("%s: nothing moves when a is back", name)
		}
		h.checkEven("web")
	}
}

// Who is waited for lives: a dead node's buckets have to go to somebody, and
// when the one that restarts has died nothing is held up any more.
func TestABucketMovesWhenItsOwnerOrTheFormerOneHasDied(t *testing.T) {
	h := given(t)
	h.die("b")
	if got := h.counts("web"); got["b"] != 0 {
		t.Errorf("shares after the owner's death: %v", got)
	}
	h = given(t)
	h.must(raftstore.Command{Wish: &raftstore.Wish{Node: "b", Out: true}})
	h.die("a")
	h.replan()
	if got := h.counts("web"); got["c"] != 8 {
		t.Errorf("shares after the former owner's death, b out: %v", got)
	}
}

func TestAMoveByHandWaitsForNobodyThatRestarts(t *testing.T) {
	h := given(t)
	for name, tc := range map[string]struct {
		pin     raftstore.Pin
		refused bool
	}{
		"a former owner restarts": {raftstore.Pin{Service: "web", Buckets: "3", Node: "c"}, true},
		"it stays with its owner": {raftstore.Pin{Service: "web", Buckets: "3", Node: "b"}, false},
		"unpinned":                {raftstore.Pin{Service: "web", Buckets: "3"}, false},
		"no such service":         {raftstore.Pin{Service: "mail", Buckets: "3", Node: "c"}, false}, // apply says so
		"no such bucket":          {raftstore.Pin{Service: "web", Buckets: "8", Node: "c"}, false},
	} {
		err := movable(h.state, tc.pin)
		if refused := errors.Is(err, raftstore.ErrRestarting); refused != tc.refused || err != nil && !strings.HasSuffix(err.Error(), ": a") {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.must(raftstore.Command{Rest: &raftstore.Rest{Node: "a"}})
	if err := movable(h.state, raftstore.Pin{Service: "web", Buckets: "3", Node: "c"}); err != nil {
		t.Errorf("when a is back: %v", err)
	}
}
