package raftstore

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
)

// kill commits a node's death on the leader.
func kill(t *testing.T, leader *node, name string) {
	t.Helper()
	_, err := leader.Propose(t.Context(), Command{Death: &Death{Node: name, Term: leader.Term(), Epoch: leader.State().Epoch}})
	if err != nil {
		t.Fatal(err)
	}
}

// forget commits that a node is forgotten.
func forget(leader *node, name string) error {
	_, err := leader.Propose(context.Background(), Command{Forget: &Forget{Node: name, Term: leader.Term(), Epoch: leader.State().Epoch}})
	return err
}

func TestAForgottenNodeIsToldSoAndAWipedOneJoins(t *testing.T) {
	nodes, leader := formed(t, 3)
	gone := follower(nodes, leader)
	name := gone.options.Name
	if err := forget(leader, name); !errors.Is(err, ErrAlive) {
		t.Errorf("forget one that lives: %v", err)
	}
	gone.stop()
	kill(t, leader, name)
	if err := forget(leader, name); err != nil {
		t.Fatal(err)
	}
	if err := leader.Expel(t.Context(), gone.ServerID()); err != nil {
		t.Fatal(err)
	}
	if len(leader.Servers()) != 2 || len(leader.State().Nodes) != 2 {
		t.Errorf("servers %+v, nodes %+v", leader.Servers(), leader.State().Nodes)
	}
	if err := gone.start().wait(); !errors.Is(err, ErrForgotten) {
		t.Errorf("with its old disk: %v", err)
	}
	gone.cancel = nil
	gone.options.DataDir = filepath.Join(t.TempDir(), "new")
	gone.start()
	settle(t, nodes)
}

func TestVotesComeAndGo(t *testing.T) {
	nodes, leader := formed(t, 3)
	other := follower(nodes, leader)
	vote := func() bool {
		for _, s := range leader.Servers() {
			if s.ID == other.ServerID() {
				return s.Voter
			}
		}
		t.Fatal("the server is gone")
		return false
	}
	server := Server{ID: other.ServerID(), Addr: other.Addr()}
	if err := leader.Vote(t.Context(), server, false); err != nil || vote() {
		t.Errorf("take the vote: %v, votes %v", err, vote())
	}
	if err := leader.Vote(t.Context(), server, true); err != nil || !vote() {
		t.Errorf("give the vote: %v, votes %v", err, vote())
	}
	leader.admitting <- struct{}{}
	if err := leader.Vote(t.Context(), server, false); !errors.Is(err, errAdmitting) {
		t.Errorf("while a node is admitted: %v", err)
	}
	<-leader.admitting
	if err := other.Vote(t.Context(), server, false); !errors.Is(err, ErrNotLeader) {
		t.Errorf("on a follower: %v", err)
	}
}

func TestAWitnessIsOneForGood(t *testing.T) {
	nodes := cluster(t, 3)
	nodes[2].options.Witness = true
	for _, n := range nodes {
		n.start()
	}
	leader := settle(t, nodes)
	if n := leader.State().Nodes["n3"]; !n.Witness || n.In() {
		t.Errorf("the witness is %+v", n)
	}
	for _, c := range []Command{
		{Wish: &Wish{Node: "n3", Out: true}},
		{Wish: &Wish{Node: "n3"}},
	} {
		if _, err := leader.Propose(t.Context(), c); !errors.Is(err, ErrWitness) {
			t.Errorf("%+v: %v", *c.Wish, err)
		}
	}
	nodes[2].stop()
	nodes[2].options.Witness = false
	if _, err := Open(nodes[2].options); !errors.Is(err, ErrOtherRole) {
		t.Errorf("a witness becomes a node: %v", err)
	}
}

// old makes a member one that has never said what it reads.
func old(s *State, name string) *State {
	s = s.clone()
	n := s.Nodes[name]
	n.Reads = 0
	s.Nodes[name] = n
	return s
}

func TestNothingIsWrittenThatAMemberCannotRead(t *testing.T) {
	nodes, leader := formed(t, 2)
	second := follower(nodes, leader).options.Name
	third := "n9"
	for name, n := range leader.State().Nodes {
		if n.Reads != CommandVersion {
			t.Errorf("%s reads %d", name, n.Reads)
		}
	}
	join := request{Join: Join{Name: third, ServerID: "id9", Listen: at(9), Weight: 1, Reads: CommandVersion}}
	leader.state.Store(old(leader.State(), second))
	leader.mu.Lock()
	clear(leader.heard)
	leader.mu.Unlock()
	if err := forget(leader, third); !errors.Is(err, ErrOldMember) {
		t.Errorf("forget: %v", err)
	}
	if err := forget(leader, second); errors.Is(err, ErrOldMember) {
		t.Errorf("forget the old one itself: %v", err)
	}
	leader.state.Store(old(leader.State(), second))
	if r, err := leader.legible(join); err != nil || r.Reads != 0 {
		t.Errorf("a newer node joins as %+v, %v", r, err)
	}
	witness := join
	witness.Witness = true
	if _, err := leader.legible(witness); !errors.Is(err, ErrOldMember) {
		t.Errorf("a witness joins: %v", err)
	}
	// The second is upgraded, and says so.
	id := leader.State().Nodes[second].ServerID
	if _, err := leader.legible(request{Join: Join{Name: second, ServerID: id, Reads: CommandVersion}}); err != nil {
		t.Error(err)
	}
	if r, err := leader.legible(witness); err != nil || r.Reads != CommandVersion {
		t.Errorf("after the upgrade: %+v, %v", r, err)
	}
	if _, err := admit(leader.State(), leader.Servers(), request{Join: Join{Name: "n8", ServerID: "id8", Listen: at(8)}}); !errors.Is(err, ErrTooOld) {
		t.Errorf("an older node joins: %v", err)
	}
}

// A cluster of older members answers 404 to what it could not take in.
func TestAWitnessIsRefusedByAnOlderCluster(t *testing.T) {
	err := fmt.Errorf("join as a witness: %w", ErrOldMember)
	if final(err) == nil || toFailure(err).Kind != "old-member" {
		t.Errorf("%v is tried for ever", err)
	}
}

// P14: one entry takes a node out of the map, of every from and of the nodes.
func TestForgetTakesANodeOutOfEverything(t *testing.T) {
	s := three(t)
	s = must(t, s, Command{Pin: &Pin{Service: "web", Buckets: "0-7", Node: "b"}})
	s = must(t, s, Command{Pin: &Pin{Service: "web", Buckets: "7", Node: "c"}}) // from b
	term := uint64(3)
	apply := func(c Forget) (*State, error) { return s.Apply(s.Index+1, term, Command{Forget: &c}) }
	if _, err := apply(Forget{Node: "b", Term: term, Epoch: s.Epoch}); !errors.Is(err, ErrAlive) {
		t.Errorf("a living node: %v", err)
	}
	s, _ = s.Apply(s.Index+1, term, Command{Death: &Death{Node: "b", Term: term, Epoch: s.Epoch}})
	for _, c := range []struct {
		forget Forget
		want   error
	}{
		{Forget{Node: "b", Term: term + 1, Epoch: s.Epoch}, ErrTerm},
		{Forget{Node: "b", Term: term, Epoch: s.Epoch - 1}, ErrStale},
		{Forget{Node: "x", Term: term, Epoch: s.Epoch}, ErrUnknownNode},
	} {
		if after, err := apply(c.forget); !errors.Is(err, c.want) || len(after.Nodes) != 3 {
			t.Errorf("%+v: %v, nodes %v", c.forget, err, after.NodeNames())
		}
	}
	after, err := apply(Forget{Node: "b", Term: term, Epoch: s.Epoch, Moves: []Move{{Service: "web", Buckets: "0-3", To: "a"}}})
	if err != nil || len(after.Nodes) != 2 {
		t.Fatalf("%v, nodes %v", err, after.NodeNames())
	}
	for b, slot := range after.Services["web"].Map {
		want := map[bool]string{true: "a", false: ""}[b < 4]
		if b == 7 {
			want = "c"
		}
		if slot.Owner != want || slot.Pin == "b" || slices.Contains(slot.From, "b") || b < 7 && slot.Since != after.Index {
			t.Errorf("bucket %d: %+v, want owner %q", b, slot, want)
		}
	}
}
