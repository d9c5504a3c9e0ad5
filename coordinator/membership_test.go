package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"earshot/raftstore"
)

// silentB is node a, which leads, and b, which is judged dead.
func silentB(t *testing.T) (*single, *history) {
	h := newHistory(t)
	h.join("a", 1)
	h.join("b", 1)
	h.define("web", 16)
	h.replan()
	return run(t, h), h
}

func TestForgetIsRefusedUntilTheNodeIsDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := silentB(t)
		defer s.stop()
		time.Sleep(time.Second)
		_, err := s.forget(t.Context(), ForgetRequest{Node: "b"})
		if !errors.Is(err, raftstore.ErrAlive) || !strings.Contains(hintFor(err), "stop its agent first") {
			t.Fatalf("forget one that is not judged yet: %v", err)
		}
		if _, err := s.forget(t.Context(), ForgetRequest{Node: "c"}); !errors.Is(err, raftstore.ErrUnknownNode) {
			t.Fatalf("forget nobody: %v", err)
		}
		time.Sleep(5 * time.Second)
		if _, err := s.forget(t.Context(), ForgetRequest{Node: "b"}); err != nil {
			t.Fatal(err)
		}
		st := s.store.State()
		if len(st.Nodes) != 1 || s.own().Len() != 16 {
			t.Fatalf("nodes %v, a opens %d buckets", st.NodeNames(), s.own().Len())
		}
	})
}

// P4: a node that is heard again is not forgotten, and one that is being
// forgotten is granted nothing.
func TestP4ForgettingAndGrantingExcludeEachOther(t *testing.T) {
	timing, err := NewTiming(300*time.Millisecond, 4*time.Millisecond, 0)
	if err != nil {
		t.Fatal(err)
	}
	h := newHistory(t)
	h.join("a", 1)
	h.join("b", 1)
	h.must(raftstore.Command{Death: &raftstore.Death{Node: "b", Term: testTerm, Epoch: h.state.Epoch}})
	b, now := h.state.Nodes["b"], time.Now()
	l := &ledger{timing: timing}
	l.begin(testTerm, now, 0)
	l.setReady(testTerm)
	if _, err := l.condemn(now, testTerm, h.state, h.state.Nodes["a"]); !errors.Is(err, raftstore.ErrAlive) {
		t.Fatalf("condemned alive: %v", err)
	}
	if _, err := l.condemn(now, testTerm, h.state, b); !errors.Is(err, errMayLive) {
		t.Fatalf("condemned within the leader's grace: %v", err)
	}
	later := now.Add(time.Second)
	request := renewal{Node: "b", ServerID: "id-b", level: level{Held: h.state.Index, Released: h.state.Index}}
	grant := func(at time.Time) error {
		_, err := l.grant(at, testTerm, func() *raftstore.State { return h.state }, request, 0, func() uint64 { return h.state.Index })
		return err
	}
	if err := grant(later); err != nil {
		t.Fatal(err)
	}
	if _, err := l.condemn(later, testTerm, h.state, b); !errors.Is(err, errMayLive) {
		t.Fatalf("condemned with a lease: %v", err)
	}
	later = later.Add(time.Second)
	if _, err := l.condemn(later, testTerm, h.state, b); err != nil {
		t.Fatal(err)
	}
	if err := grant(later); !errors.Is(err, ErrJudged) {
		t.Fatalf("granted while it is being forgotten: %v", err)
	}
	l.pardon(testTerm, "b")
	if _, err := l.condemn(later, testTerm+1, h.state, b); !errors.Is(err, ErrNotReady) {
		t.Fatalf("condemned in another term: %v", err)
	}
}

func TestAForgottenNodesBucketsWithoutAnHeirWaitForTheNextPlan(t *testing.T) {
	h := newHistory(t)
	h.join("a", 1)
	h.join("b", 1)
	h.define("web", 4)
	h.must(raftstore.Command{Pin: &raftstore.Pin{Service: "web", Buckets: "0-3", Node: "b"}})
	h.must(raftstore.Command{Wish: &raftstore.Wish{Node: "a", Out: true}})
	for _, c := range []raftstore.Command{
		{Death: &raftstore.Death{Node: "b", Term: testTerm, Epoch: h.state.Epoch, Moves: deathPlan(h.state, "b")}},
	} {
		h.must(c)
	}
	h.must(raftstore.Command{Forget: &raftstore.Forget{Node: "b", Term: testTerm, Epoch: h.state.Epoch, Moves: deathPlan(h.state, "b")}})
	if got := h.counts("web"); got[""] != 4 {
		t.Fatalf("owners %v", got)
	}
	h.must(raftstore.Command{Wish: &raftstore.Wish{Node: "a"}})
	h.replan()
	if got := h.counts("web"); got["a"] != 4 {
		t.Fatalf("owners %v", got)
	}
}

func TestWitnessIsNeverPlannedFor(t *testing.T) {
	h := newHistory(t)
	h.join("a", 1)
	h.must(raftstore.Command{Join: &raftstore.Join{Name: "w", ServerID: "id-w", Listen: "w:7440", Weight: 1, Witness: true, Reads: 2}})
	h.define("web", 8)
	h.replan()
	if got := h.counts("web"); got["a"] != 8 {
		t.Fatalf("owners %v", got)
	}
	err := h.apply(raftstore.Command{Pin: &raftstore.Pin{Service: "web", Buckets: "0", Node: "w"}})
	if !errors.Is(err, raftstore.ErrWitness) {
		t.Fatalf("pin to a witness: %v", err)
	}
	if err := h.apply(raftstore.Command{Wish: &raftstore.Wish{Node: "a", Out: true}}); !errors.Is(err, raftstore.ErrLastNode) {
		t.Fatalf("take out the only node that answers: %v", err)
	}
	s := nodeStatus(h.state, "w", account{left: time.Second}, true)
	if s.Role != RoleWitness || s.State != StateIn || !s.Alive || s.LeaseMS != 0 {
		t.Fatalf("status %+v", s)
	}
}

// ballotStore records what is done to the votes.
type ballotStore struct {
	*modelStore
	servers []raftstore.Server
	did     []string
}

func (s *ballotStore) Servers() []raftstore.Server { return s.servers }

func (s *ballotStore) Vote(_ context.Context, server raftstore.Server, vote bool) error {
	for i := range s.servers {
		if s.servers[i].ID == server.ID {
			s.servers[i].Voter = vote
		}
	}
	s.did = append(s.did, map[bool]string{true: "promote ", false: "demote "}[vote]+server.ID)
	return nil
}

func (s *ballotStore) Expel(_ context.Context, id string) error {
	s.did = append(s.did, "remove "+id)
	return nil
}

// A vote moves after a minute, whoever led meanwhile.
func TestRegistrarWaitsBeforeItMovesAVote(t *testing.T) {
	timing, err := NewTiming(300*time.Millisecond, 4*time.Millisecond, 0)
	if err != nil {
		t.Fatal(err)
	}
	h := newHistory(t)
	store := &ballotStore{modelStore: &modelStore{history: h, lead: raftstore.Leadership{Term: testTerm, Self: true}}}
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		h.join(name, 1)
		store.servers = append(store.servers, raftstore.Server{ID: "id-" + name, Voter: name != "f"})
	}
	h.must(raftstore.Command{Death: &raftstore.Death{Node: "e", Term: testTerm, Epoch: h.state.Epoch}})
	now := time.Now()
	l := &ledger{timing: timing}
	l.begin(testTerm, now, 0)
	l.setReady(testTerm)
	r := &registrar{store: store, timing: timing, ledger: l, log: slog.New(slog.DiscardHandler)}
	step := func(after time.Duration) string {
		now = now.Add(after)
		_, err := l.grant(now, testTerm, func() *raftstore.State { return h.state }, renewal{Node: "f", ServerID: "id-f", level: level{Held: h.state.Index, Released: h.state.Index}}, 0, func() uint64 { return 0 })
		if err != nil && l.ready {
			t.Fatal(err)
		}
		store.did = nil
		r.step(t.Context(), now)
		return strings.Join(store.did, ", ")
	}
	for _, c := range []struct {
		after time.Duration
		want  string
	}{
		{0, ""}, {59 * time.Second, ""}, {2 * time.Second, "demote id-e"}, {time.Second, "promote id-f"}, {time.Second, ""},
	} {
		if got := step(c.after); got != c.want {
			t.Errorf("%v later: %q, want %q", c.after, got, c.want)
		}
	}
	store.servers = append(store.servers, raftstore.Server{ID: "id-x"})
	step(0)
	if got := step(61 * time.Second); got != "remove id-x" {
		t.Errorf("a server that is no node's: %q", got)
	}
	store.servers = append(store.servers, raftstore.Server{ID: "id-y"})
	store.lead.Self = false
	step(0)
	if got := step(61 * time.Second); got != "" {
		t.Errorf("one that does not lead acts: %q", got)
	}
	store.lead.Self = true
	if got := step(time.Second); got != "remove id-x" {
		t.Errorf("what it has seen before it led: %q", got)
	}
	l.ready = false
	if got := step(time.Second); got != "" {
		t.Errorf("a leader that does not know its own log acts: %q", got)
	}
}

func TestVoteWarnings(t *testing.T) {
	for _, c := range []struct{ nodes, want string }{
		{"V", ""},
		{"V V", "two voters"},
		{"V V V", ""},
		{"V V V V", "4 voters survive no more failures than 3"},
		{"V V V V V", ""},
		{"V V V V V n", ""},
		{"V V V!", "1 of 3 voters have failed (n2): one more failure stops the cluster"},
		{"V V V V!", "1 of 4 voters have failed (n3): one more failure stops the cluster"},
		{"V V V V V!", ""},
		{"V V V V! V!", "2 of 5 voters have failed (n3, n4): one more failure stops the cluster"},
		{"V V! V!", "2 of 3 voters have failed (n1, n2): nothing can be changed"},
	} {
		var nodes []NodeStatus
		for _, e := range electors(c.nodes) {
			n := NodeStatus{Name: e.node, State: StateIn, Voter: e.vote}
			if !e.lives {
				n.State = StateFailed
			}
			nodes = append(nodes, n)
		}
		if got := voteWarning(nodes); !strings.HasPrefix(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%s: %q, want %q", c.nodes, got, c.want)
		}
	}
}

// haltedStore cannot read its log any more.
type haltedStore struct {
	*modelStore
	gave int
}

func (s *haltedStore) Halted() error { return raftstore.ErrVersion }

func (s *haltedStore) Transfer(context.Context) error {
	s.gave++
	return nil
}

// A program that is too old for the log cannot apply its own first entry, and
// would lead a cluster without leases for ever.
func TestHaltedLeaderGivesWay(t *testing.T) {
	store := &haltedStore{modelStore: &modelStore{history: newHistory(t), lead: raftstore.Leadership{Term: testTerm, Self: true}}}
	l := &leader{store: store, ledger: &ledger{}, heard: &hearsay{}, log: slog.New(slog.DiscardHandler)}
	if err := l.step(t.Context()); err != nil || store.gave != 1 || l.term != 0 {
		t.Errorf("%v, handed over %d times, leads in term %d", err, store.gave, l.term)
	}
}
