package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"earshot/hashmode"
	"earshot/nft"
	"earshot/raftstore"
)

func flowOf(protocol nft.Protocol, client string) nft.Flow {
	return nft.Flow{Protocol: protocol, Client: netip.MustParseAddrPort(client), Server: netip.MustParseAddrPort("192.0.2.20:80")}
}

func TestWhatAHeldPacketNeeds(t *testing.T) {
	udp, tcp := flowOf(nft.UDP, "192.0.2.1:1"), flowOf(nft.TCP, "192.0.2.1:1")
	here := opened{buckets: map[string]hashmode.Set{"web": hashmode.NewSet(0)}}
	for name, tc := range map[string]struct {
		slot   raftstore.Slot
		know   levels
		opened opened
		packet nft.HeldPacket
		want   claim
		whom   []string
	}{
		"released":                          {raftstore.Slot{Owner: "b", Since: 5, From: []string{"a"}}, released("a", 5), opened{}, nft.HeldPacket{Flow: udp}, claimAsk, []string{"a"}},
		"not released":                      {raftstore.Slot{Owner: "b", Since: 5, From: []string{"a"}}, released("a", 4), opened{}, nft.HeldPacket{Flow: udp}, claimWait, nil},
		"one of two released":               {raftstore.Slot{Owner: "b", Since: 5, From: []string{"a", "c"}}, released("a", 6), opened{}, nft.HeldPacket{Flow: udp}, claimWait, nil},
		"two released":                      {raftstore.Slot{Owner: "b", Since: 5, From: []string{"a", "c"}}, released("a", 6, "c", 5), opened{}, nft.HeldPacket{Flow: udp}, claimAsk, []string{"a", "c"}},
		"a SYN":                             {raftstore.Slot{Owner: "b", Since: 5, From: []string{"a"}}, released("a", 5), opened{}, nft.HeldPacket{Flow: tcp, Opens: true}, claimAsk, []string{"a"}},
		"a segment in the middle":           {raftstore.Slot{Owner: "b", Since: 5, From: []string{"a"}}, released("a", 5), opened{}, nft.HeldPacket{Flow: tcp}, claimDrop, nil},
		"the former owner is dead":          {raftstore.Slot{Owner: "b", Since: 5}, nil, opened{}, nft.HeldPacket{Flow: udp}, claimPass, nil},
		"a SYN, and nobody to ask any more": {raftstore.Slot{Owner: "b", Since: 5}, nil, opened{}, nft.HeldPacket{Flow: tcp, Opens: true}, claimDrop, nil},
		"moved on":                          {raftstore.Slot{Owner: "c", Since: 9, From: []string{"a", "b"}}, released("a", 9), opened{}, nft.HeldPacket{Flow: udp}, claimDrop, nil},
		"moved on, and the heir is to come": {raftstore.Slot{Owner: "c", Since: 9, From: []string{"a", "b"}}, nil, here, nft.HeldPacket{Flow: udp}, claimAsk, []string{"a", "c"}},
		"of no service":                     {raftstore.Slot{Owner: "b"}, nil, opened{}, nft.HeldPacket{Service: "mail", Flow: udp}, claimDrop, nil},
		"of no bucket":                      {raftstore.Slot{Owner: "b"}, nil, opened{}, nft.HeldPacket{Bucket: 1, Flow: udp}, claimDrop, nil},
	} {
		st := raftstore.NewState()
		st.Services["web"] = raftstore.Service{Map: raftstore.Map{tc.slot}}
		if tc.packet.Service == "" {
			tc.packet.Service = "web"
		}
		got, whom := judgeHeld(st, "b", tc.know, tc.opened, tc.packet)
		if got != tc.want || !slices.Equal(whom, tc.whom) {
			t.Errorf("%s: %d, asking %q; want %d, %q", name, got, whom, tc.want, tc.whom)
		}
	}
}

// inquest is an asker of node b, whose bucket 0 of web comes from a.
type inquest struct {
	*asker
	*history
	kernel *modelKernel
	store  *modelStore

	mu      sync.Mutex
	theirs  map[nft.Flow]bool
	err     error
	asking  func() // called with each question
	asked   int
	started time.Time
}

func newInquest(t *testing.T) *inquest {
	h := newHistory(t)
	h.join("a", 1)
	h.join("b", 1)
	h.define("web", 1)
	h.pin("0", "a")
	h.pin("0", "b")
	return inquestOf(t, h)
}

// inquestOf is an asker of node b.
func inquestOf(t *testing.T, h *history) *inquest {
	q := &inquest{history: h, kernel: &modelKernel{}, store: &modelStore{history: h}, theirs: map[nft.Flow]bool{}, started: time.Now()}
	q.asker = &asker{
		node: "b", store: q.store, kernel: q.kernel, news: newNews(), opened: func() opened { return opened{} },
		log: slog.New(slog.DiscardHandler), wake: make(chan struct{}, 1),
		known: func(_ context.Context, node string, flows []nft.Flow) ([]bool, error) {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.asked++
			if q.asking != nil {
				q.asking()
			}
			var mine []bool
			for _, f := range flows {
				mine = append(mine, q.theirs[f])
			}
			return mine, q.err
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() { _ = q.run(ctx) }()
	synctest.Wait()
	return q
}

// seen has something happen to the state, and the asker look at it.
func (q *inquest) seen(happens func()) {
	q.store.change(happens)
	synctest.Wait()
}

// after returns the verdict about a packet d later; -1 for none.
func (q *inquest) after(d time.Duration, id nft.HeldID) nft.Verdict {
	time.Sleep(d)
	q.kernel.mu.Lock()
	defer q.kernel.mu.Unlock()
	if v, ok := q.kernel.verdicts[id]; ok {
		return v
	}
	return -1
}

func (q *inquest) packet(id nft.HeldID, client string) {
	q.take([]nft.HeldPacket{{ID: id, Service: "web", Flow: flowOf(nft.UDP, client)}})
}

func TestAHeldPacketWaitsForTheReleaseAndTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newInquest(t)
		q.theirs[flowOf(nft.UDP, "192.0.2.1:1")] = true
		q.packet(1, "192.0.2.1:1")
		q.packet(2, "192.0.2.2:1")
		if v := q.after(100*time.Millisecond, 1); v != -1 || q.asked > 0 {
			t.Fatalf("verdict %d and %d questions before the release", v, q.asked)
		}
		q.news.learn(released("a", 1000))
		if v := q.after(2*holdRetry, 1); v != nft.Theirs {
			t.Errorf("verdict %d about the former owner's flow", v)
		}
		if v := q.after(0, 2); v != nft.Pass {
			t.Errorf("verdict %d about a flow of nobody", v)
		}
	})
}

func TestAQuestionWithoutAnAnswerCostsThePacketAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newInquest(t)
		q.news.learn(released("a", 1000))
		q.err = errors.New("nobody there")
		q.packet(1, "192.0.2.1:1")
		if v := q.after(holdLimit/2, 1); v != -1 || q.asked < 5 {
			t.Fatalf("verdict %d after %d questions without an answer", v, q.asked)
		}
		if v := q.after(holdLimit, 1); v != nft.Drop {
			t.Fatalf("verdict %d at last", v)
		}
		q.err = nil
		q.packet(2, "192.0.2.1:1")
		if v := q.after(holdRetry, 2); v != nft.Pass {
			t.Fatalf("verdict %d when answers come again", v)
		}
	})
}

// TestAnAnswerAboutAMoveThatIsOverIsNone: while the question was under way the
// bucket went on and came back, and somebody else may have the flow.
func TestAnAnswerAboutAMoveThatIsOverIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newInquest(t)
		q.join("c", 1)
		q.news.learn(released("a", 1000))
		q.asking = func() {
			q.asking = nil
			q.store.mu.Lock()
			defer q.store.mu.Unlock()
			q.pin("0", "c")
			q.pin("0", "b")
		}
		q.packet(1, "192.0.2.1:1")
		if v := q.after(100*time.Millisecond, 1); v != -1 {
			t.Fatalf("verdict %d though c has not released", v)
		}
		q.news.learn(released("c", 1000))
		if v := q.after(2*holdRetry, 1); v != nft.Pass {
			t.Fatalf("verdict %d after c's answer", v)
		}
	})
}

func TestADeadNodesFlowsAreAskedAboutAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newInquest(t)
		q.seen(func() {})
		if q.kernel.askedAgain != 0 {
			t.Fatal("asked again though all live")
		}
		q.seen(func() { q.die("a") })
		q.seen(func() {})
		if q.kernel.askedAgain != 1 {
			t.Fatalf("asked again %d times", q.kernel.askedAgain)
		}
	})
}

// TestWhatADeadNodeMayHaveAnsweredIsDropped: what was held while the former
// owner lived may be a SYN that it has answered. It cannot be asked any more, and
// a second answer would break the connection (I1). What comes later is new.
func TestWhatADeadNodeMayHaveAnsweredIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newInquest(t)
		q.packet(1, "192.0.2.1:1")
		if v := q.after(holdRetry, 1); v != -1 {
			t.Fatalf("verdict %d before the release", v)
		}
		q.store.mu.Lock()
		q.die("a")
		q.store.mu.Unlock()
		if v := q.after(2*holdRetry, 1); v != nft.Drop {
			t.Errorf("verdict %d about a packet that the dead node may have answered", v)
		}
		q.packet(2, "192.0.2.1:1") // held before, but told of late
		if v := q.after(holdRetry, 2); v != nft.Drop {
			t.Errorf("verdict %d about one that was told of late", v)
		}
		time.Sleep(nft.HoldLimit)
		q.packet(3, "192.0.2.1:1")
		if v := q.after(holdRetry, 3); v != nft.Pass {
			t.Errorf("verdict %d about a new one", v)
		}
	})
}

// TestAReleasedBucketIsAskedAboutForALease: a SYN that the former owner has
// answered may still be on its way into this node's kernel.
func TestAReleasedBucketIsAskedAboutForALease(t *testing.T) {
	h := newHistory(t)
	h.join("a", 1)
	h.join("b", 1)
	h.define("web", 2)
	h.pin("0-1", "a")
	h.pin("0", "b")
	s := settling{time: time.Second}
	now := time.Now()
	shares := func(l levels, o opened, now time.Time) (take, inherit string) {
		fresh := s.look(h.state, "b", l, o, now)
		v := desired(h.state, "b", knowledge{levels: l, opened: o, fresh: fresh}).Services[0]
		return v.Take.String(), v.Inherit.String()
	}
	for _, tc := range []struct {
		what          string
		know          levels
		opened        opened
		at            time.Duration
		take, inherit string
	}{
		{"not released", nil, opened{}, 0, "0", ""},
		{"released just now", released("a", 1000), opened{}, 5 * time.Second, "0", ""},
		{"a moment later", released("a", 1000), opened{}, 5900 * time.Millisecond, "0", ""},
		{"a lease later", released("a", 1000), opened{}, 6 * time.Second, "", "0"},
	} {
		if take, inherit := shares(tc.know, tc.opened, now.Add(tc.at)); take != tc.take || inherit != tc.inherit {
			t.Errorf("%s: take %q, inherit %q", tc.what, take, inherit)
		}
	}
	s = settling{time: time.Second}
	o := opened{held: h.state.Index, buckets: map[string]hashmode.Set{"web": hashmode.NewSet(0)}}
	if take, inherit := shares(released("a", 1000), o, now); take != "" || inherit != "0" {
		t.Errorf("what the kernel lets through already: take %q, inherit %q", take, inherit)
	}
	h.must(raftstore.Command{Join: &raftstore.Join{Name: "c", ServerID: "id-c", Listen: "c:7440", Weight: 1, NoQueue: true}})
	if take, inherit := shares(released("a", 1000), opened{}, now); take != "" || inherit != "0" {
		t.Errorf("with a node that cannot hold: take %q, inherit %q", take, inherit)
	}
}
