package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"earshot/raftstore"
)

// stuckStore has a disk that hangs.
type stuckStore struct {
	*modelStore
	resigned  bool
	meanwhile func() // while an entry waits
	err       error  // at once, instead of none
}

func newStuckStore(t *testing.T) *stuckStore {
	return &stuckStore{modelStore: &modelStore{history: newHistory(t), lead: raftstore.Leadership{Term: testTerm, Self: true}}}
}

func (s *stuckStore) Propose(ctx context.Context, _ raftstore.Command) (uint64, error) {
	if s.meanwhile != nil {
		s.meanwhile()
	}
	if s.err != nil {
		return 0, s.err
	}
	<-ctx.Done()
	return 0, raftstore.ErrUnknown
}

func (s *stuckStore) Transfer(context.Context) error { return raftstore.ErrNotHandedOver }

func (s *stuckStore) Resign() { s.resigned = true }

// clerk is a leader over the store, with nobody to lead.
func (s *stuckStore) clerk(t *testing.T) *leader {
	timing, err := NewTiming(300*time.Millisecond, 4*time.Millisecond, 0)
	if err != nil {
		t.Fatal(err)
	}
	return &leader{
		store: s, timing: timing, ledger: &ledger{timing: timing}, news: newNews(), heard: &hearsay{},
		log: slog.New(slog.DiscardHandler),
	}
}

// Its Raft goes on with heartbeats for as long as the agent takes to end, and
// nobody else is elected before they cease.
func TestLeaderThatCannotCommitResignsP10(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStuckStore(t)
		l := store.clerk(t)
		l.term, l.tickedAt, l.ranAt = testTerm, time.Now(), time.Now()
		l.ledger.begin(testTerm, time.Now(), 0)
		if err := l.step(t.Context()); err != nil || store.resigned {
			t.Fatalf("before the proof is due: %v, resigned: %v", err, store.resigned)
		}
		time.Sleep(l.timing.Tick)
		if err := l.step(t.Context()); !errors.Is(err, errStuck) || !store.resigned {
			t.Fatalf("cannot commit: %v, resigned: %v", err, store.resigned)
		}
	})
}

// One whose disk hangs from its election on would lead for ever, and grant
// nothing to anybody.
func TestLeaderThatCannotCommitItsFirstEntryResignsP10(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newStuckStore(t)
		l := store.clerk(t)
		if err := l.step(t.Context()); err != nil || store.resigned {
			t.Fatalf("slow: %v, resigned: %v", err, store.resigned)
		}
		if err := l.step(t.Context()); !errors.Is(err, errStuck) || !store.resigned {
			t.Fatalf("cannot commit: %v, resigned: %v", err, store.resigned)
		}
	})
}

// A first entry that is late, or that another leader's election overtakes, is
// no reason to end.
func TestASlowElectionEndsNoAgentP10(t *testing.T) {
	for name, change := range map[string]func(*stuckStore){
		"it reads its log first": func(s *stuckStore) {
			s.meanwhile = func() { s.history.must(raftstore.Command{Tick: &raftstore.Tick{}}) }
		},
		"another is elected":      func(s *stuckStore) { s.meanwhile = func() { s.lead = raftstore.Leadership{Term: testTerm + 1} } },
		"it leads anew":           func(s *stuckStore) { s.meanwhile = func() { s.lead.Term++ } },
		"it is not in office yet": func(s *stuckStore) { s.err = raftstore.ErrNotLeader },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newStuckStore(t)
				change(store)
				l := store.clerk(t)
				l.failed = testTerm
				if err := l.step(t.Context()); err != nil || store.resigned || l.term != 0 {
					t.Errorf("%v, resigned: %v, leads in term %d", err, store.resigned, l.term)
				}
			})
		})
	}
}
