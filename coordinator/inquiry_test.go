package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"earshot/hashmode"
	"earshot/nft"
)

// TestANodeThatDoesNotAnswerHoldsUpNobodyElsesPackets: bucket 0 comes from a,
// which is unreachable, and bucket 1 from c, which answers at once.
func TestANodeThatDoesNotAnswerHoldsUpNobodyElsesPackets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		for _, n := range []string{"a", "b", "c"} {
			h.join(n, 1)
		}
		h.define("web", 2)
		h.pin("0", "a")
		h.pin("1", "c")
		h.pin("0-1", "b")
		q := inquestOf(t, h)
		q.known = func(_ context.Context, node string, flows []nft.Flow) ([]bool, error) {
			if node == "a" {
				time.Sleep(holdLimit / 4)
				return nil, errors.New("nobody there")
			}
			return make([]bool, len(flows)), nil
		}
		q.news.learn(released("a", 1000, "c", 1000))
		held := func(id nft.HeldID, b hashmode.Bucket) {
			q.take([]nft.HeldPacket{{ID: id, Service: "web", Bucket: b, Flow: flowOf(nft.UDP, "192.0.2.1:1")}})
		}
		for i := range nft.HeldID(50) {
			held(2*i+1, 0)
			held(2*i+2, 1)
			if v := q.after(time.Millisecond, 2*i+2); v != nft.Pass {
				t.Fatalf("packet %d, of nobody: verdict %d", 2*i+2, v)
			}
			if v := q.after(4*time.Millisecond, 2*i+1); v != -1 {
				t.Fatalf("packet %d, perhaps of a: verdict %d", 2*i+1, v)
			}
		}
		v := q.after(2*holdLimit, 99)
		q.asker.mu.Lock()
		defer q.asker.mu.Unlock()
		if v != nft.Drop || len(q.open) > 0 {
			t.Errorf("at last: verdict %d, %d kinds of inquiries open", v, len(q.open))
		}
	})
}

// TestWhatComesMeanwhileIsAskedAboutTogether: however many packets come, few
// questions are open at a time, and no packet waits for longer than two answers
// take.
func TestWhatComesMeanwhileIsAskedAboutTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const answer, every, limit = 10 * time.Millisecond, time.Millisecond, 22
		q := newInquest(t)
		var open, most, calls atomic.Int64
		q.known = func(_ context.Context, _ string, flows []nft.Flow) ([]bool, error) {
			calls.Add(1)
			most.Store(max(most.Load(), open.Add(1)))
			defer open.Add(-1)
			time.Sleep(answer)
			return make([]bool, len(flows)), nil
		}
		q.news.learn(released("a", 1000))
		for i := nft.HeldID(1); i <= 500; i++ {
			q.take([]nft.HeldPacket{{ID: i, Service: "web", Flow: flowOf(nft.UDP, fmt.Sprintf("192.0.2.1:%d", i))}})
			if v := q.after(every, max(i, limit)-limit+1); i > limit && v != nft.Pass {
				t.Fatalf("packet %d has waited for %v: verdict %d", i-limit+1, limit*every, v)
			}
		}
		time.Sleep(limit * every)
		if most.Load() > askInParallel || calls.Load() > 150 {
			t.Errorf("%d questions were asked about 500 packets, %d at a time", calls.Load(), most.Load())
		}
	})
}
