package raftstore

import (
	"errors"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// ballots is a transport whose two peers vote for the node, but whose votes
// (not pre-votes) are on their way until they are let go.
type ballots struct {
	*transport
	asked chan uint64 // the term of an election
	votes chan struct{}
}

func (b *ballots) RequestPreVote(_ raft.ServerID, _ raft.ServerAddress, q *raft.RequestPreVoteRequest, a *raft.RequestPreVoteResponse) error {
	a.Term, a.Granted = q.Term, true
	return nil
}

func (b *ballots) RequestVote(_ raft.ServerID, _ raft.ServerAddress, q *raft.RequestVoteRequest, a *raft.RequestVoteResponse) error {
	select {
	case b.asked <- q.Term:
	default:
	}
	<-b.votes
	a.Term, a.Granted = q.Term, true
	return nil
}

func (b *ballots) AppendEntries(raft.ServerID, raft.ServerAddress, *raft.AppendEntriesRequest, *raft.AppendEntriesResponse) error {
	return raft.ErrTransportShutdown
}

// A candidate's last vote is late: a peer gave it, and then voted for another
// in the next term, whose heartbeat is here first. hashicorp/raft v1.7.3 alone
// makes the candidate a second leader of that term.
func TestALateVoteMakesNoSecondLeaderOfATerm(t *testing.T) {
	n := newNode(t, GenerateKey(), "n1", free(t))
	n.options.Lease = 4 * time.Second // an election lasts a second
	s, err := Open(n.options)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	log := &raftLog{log: slog.New(slog.DiscardHandler)}
	b := &ballots{
		transport: newTransport(s.port.openRaft(), s.dialer, n.options.Lease, log),
		asked:     make(chan uint64, 1),
		votes:     make(chan struct{}),
	}
	e := &engine{transport: b.transport}
	e.forward.Go(b.forward)
	servers := raft.Configuration{Servers: []raft.Server{
		{ID: raft.ServerID(s.ServerID()), Address: "a"}, {ID: "b", Address: "b"}, {ID: "c", Address: "c"},
	}}
	first := &raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(servers)}
	if err := s.logs.StoreLog(first); err != nil {
		t.Fatal(err)
	}
	e.raft, err = raft.NewRaft(raftConfig(s.options, s.ServerID()), fsm{s}, s.logs, s.stable, s.disk.snaps, b)
	if err != nil {
		t.Fatal(err)
	}
	defer e.stop(s.port)
	e.raft.RegisterObserver(raft.NewObserver(nil, false, func(o *raft.Observation) bool {
		s.observe(e, e.raft, o.Data)
		return false
	}))
	b.raft.Store(e.raft)

	term := <-b.asked
	answer := make(chan raft.RPCResponse, 1)
	b.heartbeat(raft.RPC{
		Command: &raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("c"), Addr: []byte("c")},
			Term:      term + 1,
		},
		RespChan: answer,
	})
	<-answer
	if got := e.raft.CurrentTerm(); got != term+1 {
		t.Fatalf("term %d after a heartbeat of term %d", got, term+1)
	}
	close(b.votes)
	for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); pause(t.Context(), time.Millisecond) {
		if e.raft.State() == raft.Leader {
			t.Fatalf("leads in term %d, which is c's", e.raft.CurrentTerm())
		}
	}
}

// aFollower is a Raft that belongs to no cluster, and so stays a follower.
func aFollower(t *testing.T) *raft.Raft {
	t.Helper()
	c := raft.DefaultConfig()
	c.LocalID, c.Logger = "a", &raftLog{log: slog.New(slog.DiscardHandler)}
	disk := raft.NewInmemStore()
	_, network := raft.NewInmemTransport("a")
	r, err := raft.NewRaft(c, &raft.MockFSM{}, disk, disk, raft.NewInmemSnapshotStore(), network)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Shutdown().Error() })
	return r
}

// While a heartbeat is passing by, the main goroutine cannot change its role;
// and it waits in a way that testing/synctest knows, since the heartbeat may be
// waiting for the disk.
func TestRolesWaitForHeartbeats(t *testing.T) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		synctest.Test(t, func(t *testing.T) {
			tr := carriedBy(nil, nil, time.Second)
			tr.raft.Store(aFollower(t))
			tr.handle = func(raft.RPC) {
				tr.roleChanged(raft.Follower) // of the heartbeat itself
				time.Sleep(time.Second)
			}
			began := time.Now()
			go tr.heartbeat(raft.RPC{Command: &raft.AppendEntriesRequest{}})
			synctest.Wait()
			tr.roleChanged(raft.Candidate)
			if took := time.Since(began); took != time.Second {
				t.Errorf("the role changed after %v, in the middle of a heartbeat of 1s", took)
			}
		})
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("whoever waits at the gate keeps the bubble's time from passing")
	}
}

// loud is a network that counts what is sent.
type loud struct {
	Network
	sent int
}

func (l *loud) AppendEntries(raft.ServerID, raft.ServerAddress, *raft.AppendEntriesRequest, *raft.AppendEntriesResponse) error {
	l.sent++
	return nil
}

func (l *loud) InstallSnapshot(raft.ServerID, raft.ServerAddress, *raft.InstallSnapshotRequest, *raft.InstallSnapshotResponse, io.Reader) error {
	l.sent++
	return nil
}

func (l *loud) RequestVote(raft.ServerID, raft.ServerAddress, *raft.RequestVoteRequest, *raft.RequestVoteResponse) error {
	l.sent++
	return nil
}

func (l *loud) RequestPreVote(raft.ServerID, raft.ServerAddress, *raft.RequestPreVoteRequest, *raft.RequestPreVoteResponse) error {
	l.sent++
	return nil
}

func (l *loud) TimeoutNow(raft.ServerID, raft.ServerAddress, *raft.TimeoutNowRequest, *raft.TimeoutNowResponse) error {
	l.sent++
	return nil
}

// Whatever Raft still does, nobody hears it (rule P10).
func TestWhoHasResignedSaysNothing(t *testing.T) {
	network := &loud{}
	tr := carriedBy(network, nil, time.Second)
	s := &Store{engine: &engine{transport: tr}}
	all := func() (errs []error) {
		errs = append(errs, tr.AppendEntries("b", "b", &raft.AppendEntriesRequest{}, nil))
		errs = append(errs, tr.AppendEntries("b", "b", &raft.AppendEntriesRequest{PrevLogEntry: 1}, nil))
		errs = append(errs, tr.InstallSnapshot("b", "b", &raft.InstallSnapshotRequest{}, nil, nil))
		errs = append(errs, tr.RequestVote("b", "b", nil, nil), tr.RequestPreVote("b", "b", nil, nil))
		return append(errs, tr.TimeoutNow("b", "b", nil, nil))
	}
	if err := errors.Join(all()...); err != nil || network.sent != 6 {
		t.Fatalf("%d of 6 calls are sent: %v", network.sent, err)
	}
	s.Resign()
	for i, err := range all() {
		if err == nil {
			t.Errorf("call %d: sent by one that has resigned", i)
		}
	}
	if network.sent != 6 {
		t.Errorf("%d calls are sent by one that has resigned", network.sent-6)
	}
}
