package e2e

import (
	"testing"
	"time"

	"earshot/e2e/load"
)

// takeOverLimit bounds, on a busy machine, how long a dead node's clients
// wait: a lease and its margin until the others are sure, the move, and a SYN
// sent again after 1 s, or another 2 s later.
const takeOverLimit = 10 * time.Second

// I2: a node's agent is killed. Its kernel falls silent by itself, the others
// take its buckets, and every new connection is answered: late at worst, once,
// and never by the dead node after its lease.
func TestOthersTakeOverFromADeadNode(t *testing.T) {
	l := three(t)
	w := watch(t, l)
	dead, operator := l.Nodes[0], l.Nodes[1]
	p := steady(l)
	p.Timeout = takeOverLimit
	news := generate(t, l, p)
	wait(t, news)
	if err := dead.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	shareBecomes(t, operator, dead.Name, func(own int) bool { return own == 0 })
	moved := time.Now()
	if took := moved.Sub(killed); took > takeOverLimit {
		t.Errorf("buckets moved only %v after the kill", took)
	}
	wait(t, news)
	records := finish(t, "new connections", news)
	for _, r := range records.Since(moved) {
		if r.Failure != "" || r.Node == dead.Name {
			t.Errorf("after the move: %s answered by %q %s", r.Client, r.Node, r.Failure)
		}
	}
	// What was refused or reset was open on the dead node, if anything.
	for _, r := range records.Since(killed) {
		if r.Failure == load.Refused {
			t.Errorf("refused: %s %v after the kill", r.Client, r.Start.Sub(killed))
		}
	}
	// Connections that were open on the dead node may hear a reset of the new
	// owner's: that is how their clients learn. Twice is still wrong (I1).
	v, err := w.Verdict(load.TCP)
	if err != nil || v.Asked == 0 || len(v.Twice) > 0 {
		t.Errorf("answered twice: %q, %v", v.Twice, err)
	}
	if got := ask(t, operator).node(dead.Name); got.Alive || got.State != "failed" {
		t.Errorf("the dead node: %+v", got)
	}
	if err := dead.Start(); err != nil {
		t.Fatal(err)
	}
	t.Logf("whole again after %v", whole(t, l, formLimit))
}
