package coordinator

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"earshot/raftstore"
)

// electorate is a store and its peers with three voters, of which this node,
// a, is one. The test says what the others answer.
type electorate struct {
	modelStore
	mu    sync.Mutex
	terms map[string]uint64 // of each voter that can be reached
	// before is how long ago each last answered an earlier term, as it says.
	before map[string]time.Duration
	delay  time.Duration // of each answer, on its way back
	more   []raftstore.Server
	probes int
}

func (e *electorate) Servers() []raftstore.Server {
	return append([]raftstore.Server{
		{ID: "id-a", Addr: "a:7440", Voter: true}, {ID: "id-b", Addr: "b:7440", Voter: true},
		{ID: "id-c", Addr: "c:7440", Voter: true}, {ID: "id-d", Addr: "d:7440"},
	}, e.more...)
}

func (e *electorate) Call(ctx context.Context, addr, _ string, request, answer any) error {
	p := request.(probe)
	e.mu.Lock()
	e.probes++
	term, reached := e.terms[addr]
	before, says := e.before[addr]
	delay := e.delay
	e.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return ctx.Err()
	}
	if !reached || term > p.Term {
		return errors.New("refused")
	}
	a := probeAnswer{Term: p.Term, Nonce: p.Nonce}
	if says {
		a.Before = &before
	}
	*answer.(*probeAnswer) = a
	return nil
}

func (e *electorate) quorum(t *testing.T) *quorum {
	timing, err := NewTiming(300*time.Millisecond, 4*time.Millisecond, 0)
	if err != nil {
		t.Fatal(err)
	}
	if e.history == nil {
		e.history = newHistory(t)
	}
	own := newHearsay("a", time.Now())
	return &quorum{node: "a", store: e, peers: e, own: &own, timing: timing}
}

func TestLeaderIsConfirmedByAMajorityOfVotersAlone(t *testing.T) {
	for name, tc := range map[string]struct {
		terms map[string]uint64
		want  error
	}{
		"both others":                {map[string]uint64{"b:7440": testTerm, "c:7440": testTerm}, nil},
		"one other":                  {map[string]uint64{"c:7440": testTerm}, nil},
		"one that lags":              {map[string]uint64{"c:7440": testTerm - 1}, nil},
		"none":                       {nil, ErrNoQuorum},
		"only one without a vote":    {map[string]uint64{"d:7440": testTerm}, ErrNoQuorum},
		"another leader was elected": {map[string]uint64{"b:7440": testTerm + 1, "c:7440": testTerm + 1}, ErrNoQuorum},
	} {
		synctest.Test(t, func(t *testing.T) {
			e := &electorate{terms: tc.terms}
			if err := e.quorum(t).confirm(t.Context(), testTerm); !errors.Is(err, tc.want) {
				t.Errorf("%s: %v, want %v", name, err, tc.want)
			}
		})
	}
}

// TestAnswersUnderWayDoNotConfirmP2: the voters answered before the request
// came in, and elected another leader since.
func TestAnswersUnderWayDoNotConfirmP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &electorate{terms: map[string]uint64{"b:7440": testTerm, "c:7440": testTerm}, delay: 50 * time.Millisecond}
		q := e.quorum(t)
		first := make(chan error, 1)
		go func() { first <- q.confirm(t.Context(), testTerm) }()
		time.Sleep(20 * time.Millisecond) // the first round is asked, its answers are under way
		e.mu.Lock()
		e.terms = map[string]uint64{"b:7440": testTerm + 1, "c:7440": testTerm + 1}
		e.mu.Unlock()
		if err := q.confirm(t.Context(), testTerm); !errors.Is(err, ErrNoQuorum) {
			t.Fatalf("a request after the election: %v", err)
		}
		if err := <-first; err != nil {
			t.Errorf("a request before the election: %v", err)
		}
	})
}

func TestRequestsThatWaitShareAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &electorate{terms: map[string]uint64{"b:7440": testTerm, "c:7440": testTerm}}
		q := e.quorum(t)
		var asking sync.WaitGroup
		for range 100 {
			asking.Go(func() {
				if err := q.confirm(t.Context(), testTerm); err != nil {
					t.Error(err)
				}
			})
		}
		asking.Wait()
		synctest.Wait() // one answer makes the majority: the other may come later
		if e.probes != 2 {
			t.Fatalf("%d probes for requests that came at once", e.probes)
		}
	})
}
