package coordinator

import (
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"earshot/raftstore"
)

// voter is a node's part in elections. Its store's term is the test's.
type voter struct {
	*testing.T
	modelStore
	hearsay hearsay
}

func newVoter(t *testing.T) *voter { return &voter{T: t, hearsay: newHearsay("a", time.Now())} }

// moveTo has the node's Raft enter a term.
func (v *voter) moveTo(term uint64) { v.lead = raftstore.Leadership{Term: term} }

// probe returns how long ago the voter says that it last answered an earlier
// term; -1: it does not say.
func (v *voter) probe(term uint64, leader string) time.Duration {
	v.Helper()
	a, err := v.hearsay.answer(&v.modelStore, probe{Term: term, Nonce: 9, Leader: leader, Before: true})
	if err != nil || a.Nonce != 9 || a.Term != term {
		v.Fatalf("probe of term %d: %+v, %v", term, a, err)
	}
	if a.Before == nil {
		return -1
	}
	return *a.Before
}

func (v *voter) refuses(why string, term uint64) {
	v.Helper()
	if _, err := v.hearsay.answer(&v.modelStore, probe{Term: term}); !errors.Is(err, ErrNotLeader) {
		v.Errorf("%s: a probe of term %d: %v", why, term, err)
	}
}

func TestVoterRefusesATermBelowItsOwn(t *testing.T) {
	v := newVoter(t)
	v.refuses("its own term is above", testTerm-1)
	v.probe(testTerm, "b")
	v.probe(testTerm+1, "c")
	v.refuses("it has answered a later one", testTerm)
}

// termless is a store whose Raft does not run, or not yet.
type termless struct{ modelStore }

func (*termless) Term() uint64 { return 0 }

// It may have voted for another leader long since, and will know once its Raft
// has read the disk.
func TestVoterWithoutATermRefusesP2(t *testing.T) {
	h := newHearsay("a", time.Now())
	if _, err := h.answer(&termless{}, probe{Term: testTerm}); !errors.Is(err, ErrNotReady) {
		t.Errorf("its Raft does not run: %v", err)
	}
}

// At the address of a voter there may be another disk by now (rule P9).
func TestVoterRefusesWhatIsMeantForAnotherP2(t *testing.T) {
	v := newVoter(t)
	for id, want := range map[string]error{v.ServerID(): nil, "id-of-a-disk-before": ErrStranger, "": nil} {
		if _, err := v.hearsay.answer(&v.modelStore, probe{Term: testTerm, Voter: id}); !errors.Is(err, want) {
			t.Errorf("meant for %q: %v", id, err)
		}
	}
}

// What a voter says of earlier terms is what no answer can follow.
func TestVoterSaysWhenItLastAnsweredAnEarlierTermP6(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVoter(t)
		want := func(why string, got, want time.Duration) {
			t.Helper()
			if got != want {
				t.Errorf("%s: it says %v, want %v", why, got, want)
			}
		}
		v.moveTo(testTerm)
		time.Sleep(time.Second)
		want("what a process before this one answered is not known", v.probe(testTerm, "b"), time.Second)
		time.Sleep(time.Second)
		want("the same leader", v.probe(testTerm, "b"), 2*time.Second)
		time.Sleep(time.Second)
		want("it is not of the term yet", v.probe(testTerm+1, "c"), -1)
		v.moveTo(testTerm + 1)
		want("it is of the term", v.probe(testTerm+1, "c"), time.Second)
		time.Sleep(time.Second)
		want("again", v.probe(testTerm+1, "c"), 2*time.Second)
	})
}

func TestWhoLedBeforeATerm(t *testing.T) {
	v := newVoter(t)
	want := func(term uint64, want string) {
		t.Helper()
		if got := v.hearsay.former(term); got != want {
			t.Errorf("before term %d led %q, want %q", term, got, want)
		}
	}
	want(testTerm, "")
	v.probe(testTerm, "b")
	want(testTerm+2, "b")
	v.probe(testTerm+2, "a")
	want(testTerm+2, "b")
	want(testTerm+3, "a")
}

func TestOnlyOtherLeadersCount(t *testing.T) {
	v := newVoter(t)
	v.probe(testTerm, "a")
	if !v.hearsay.nobody() {
		t.Error("it has heard itself alone")
	}
	v.probe(testTerm+1, "b")
	if v.hearsay.nobody() {
		t.Error("it has heard another")
	}
}

// The latest answer of a majority is what counts: each grant was confirmed by a
// majority, too.
func TestTheLastAnswerOfAMajorityCountsP6(t *testing.T) {
	const sec = time.Second
	for name, tc := range map[string]struct {
		before map[string]time.Duration
		want   time.Duration // ago
		fails  bool
	}{
		"the other's is later":             {map[string]time.Duration{"b:7440": 2 * sec}, 2 * sec, false},
		"its own is later":                 {map[string]time.Duration{"c:7440": 20 * sec}, 10 * sec, false},
		"the others are of an old version": {nil, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &electorate{terms: map[string]uint64{"b:7440": testTerm, "c:7440": testTerm}, before: tc.before}
				e.lead = raftstore.Leadership{Term: testTerm}
				q := e.quorum(t)
				q.votersSince()
				time.Sleep(10 * sec)
				now := time.Now()
				got, err := q.lastAnswer(testTerm)
				if (err != nil) != tc.fails || err == nil && now.Sub(got) != tc.want {
					t.Errorf("%v ago, %v", now.Sub(got), err)
				}
				synctest.Wait()
			})
		})
	}
}

// Before the voters changed, a majority may have been one that has none of
// today's in it.
func TestNoAnswerFromBeforeTheVotersChangedCountsP6(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &electorate{
			terms:  map[string]uint64{"b:7440": testTerm, "c:7440": testTerm},
			before: map[string]time.Duration{"b:7440": time.Hour, "c:7440": time.Hour},
		}
		e.lead = raftstore.Leadership{Term: testTerm}
		q := e.quorum(t)
		q.own.older.answered = time.Now().Add(-time.Hour)
		want := func(why string, want time.Duration) {
			t.Helper()
			now := time.Now()
			if got, err := q.lastAnswer(testTerm); err != nil || now.Sub(got) != want {
				t.Errorf("%s: %v ago, %v; want %v", why, now.Sub(got), err, want)
			}
			synctest.Wait()
		}
		q.votersSince()
		time.Sleep(time.Minute)
		want("since the start", time.Minute)
		e.more = []raftstore.Server{{ID: "id-e", Addr: "e:7440"}}
		time.Sleep(time.Minute)
		want("one has come that has no vote", 2*time.Minute)
		e.more[0].Voter = true
		q.votersSince()
		time.Sleep(time.Minute)
		want("it has got one", time.Minute)
	})
}

// A successor of an older version waits less for a leader whose name it finds
// under the key of before: it takes its own leases for short.
func TestAProbeHidesItsLeaderFromOlderVersionsP6(t *testing.T) {
	text, err := json.Marshal(probe{Term: testTerm, Leader: "a"})
	var older struct {
		Leader string `json:"leader"`
	}
	if err = errors.Join(err, json.Unmarshal(text, &older)); err != nil || older.Leader != "" {
		t.Errorf("%s: %v", text, err)
	}
}
