package coordinator

import (
	"testing"
	"testing/synctest"

	"earshot/nft"
	"earshot/raftstore"
)

// TestADeathCostsNothingWhereTheDeadHadNoPart: just after a death, the drain of a
// living node ends while a datagram is held in its bucket. The dead one cannot
// have answered that: it is let in.
func TestADeathCostsNothingWhereTheDeadHadNoPart(t *testing.T) {
	for name, before := range map[string]func(q *inquest){
		"another node's bucket": func(q *inquest) {
			q.seen(func() { q.die("c") })
		},
		"a bucket that has moved since": func(q *inquest) {
			q.seen(func() { q.pin("0", "c"); q.pin("0", "b") })
			q.seen(func() { q.die("c") })
			q.seen(func() { q.pin("0", "a"); q.pin("0", "b") })
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newInquest(t)
				q.seen(func() { q.join("c", 1) })
				before(q)
				q.seen(func() {
					q.must(raftstore.Command{EndDrain: &raftstore.EndDrain{Node: "a", Service: "web", Buckets: "0", Seen: 1000}})
				})
				q.packet(1, "192.0.2.1:1")
				if v := q.after(holdRetry, 1); v != nft.Pass {
					t.Errorf("verdict %d", v)
				}
			})
		})
	}
}
