package raftstore

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// formed starts a settled cluster.
func formed(t *testing.T, count int) (nodes []*node, leader *node) {
	nodes = cluster(t, count)
	for _, n := range nodes {
		n.start()
	}
	return nodes, settle(t, nodes)
}

// a follower of the leader.
func follower(nodes []*node, leader *node) *node {
	for _, n := range nodes {
		if n != leader {
			return n
		}
	}
	return nil
}

func TestNobodyFormsBeforeAllAreThere(t *testing.T) {
	nodes := cluster(t, 3)
	for _, i := range []int{2, 0} {
		nodes[i].start()
		pause(t.Context(), 3*formEvery)
	}
	for _, i := range []int{2, 0} {
		if self := nodes[i].self(); self.Member || self.Promise != (promise{}) {
			t.Errorf("%s acts without n2: %+v", self.Name, self)
		}
	}
	nodes[1].start()
	settle(t, nodes)
}

// Crashes at any time of the forming, the moments between a promise and the
// cluster among them, must leave one cluster.
func TestFormingThroughCrashes(t *testing.T) {
	nodes := cluster(t, 3)
	for _, n := range nodes {
		n.start()
	}
	for round := range 6 {
		pause(t.Context(), time.Duration(round*60)*time.Millisecond)
		n := nodes[round%3]
		n.stop()
		n.start()
	}
	settle(t, nodes)
}

// A crash may leave the term of a cluster that was about to be formed, and no
// log. raft.BootstrapCluster would refuse for ever.
func TestFormingAfterACrashWithinBootstrap(t *testing.T) {
	n := newNode(t, GenerateKey(), "n1", free(t))
	s, err := Open(n.options)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.disk.bolt.SetUint64(keyCurrentTerm, 1), s.Close()); err != nil {
		t.Fatal(err)
	}
	settle(t, []*node{n.start()})
}

func TestANewNodeJoinsThroughAnyMember(t *testing.T) {
	nodes, leader := formed(t, 2)
	for i := range 4 {
		name := fmt.Sprint("new", i)
		// One that nobody lists, and that lists one that is no leader.
		n := newNode(t, leader.options.Key, name, free(t), follower(nodes, leader).options.Listen).start()
		nodes = append(nodes, n)
		leader = settle(t, nodes)
	}
	count := 0
	for _, s := range leader.Servers() {
		if s.Voter {
			count++
		}
	}
	if count != mostVoters {
		t.Errorf("%d voters of %d", count, len(nodes))
	}
}

func TestAMemberComesBackAsItIs(t *testing.T) {
	nodes, leader := formed(t, 3)
	index, err := leader.Propose(t.Context(), Command{Wish: &Wish{Node: "n1", Out: true}})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		n.stop()
	}
	moved := nodes[0]
	moved.options.Listen, moved.options.Weight, moved.options.Peers = free(t), 5, nil
	nodes[1].options.Weight = 7
	for _, n := range nodes {
		n.start()
	}
	for _, n := range nodes {
		until(t, "n2's weight", func() bool { return n.State().Nodes["n2"].Weight == 7 })
		until(t, "n1 as it is now", func() bool {
			got := n.State().Nodes["n1"]
			return got.Listen == moved.Addr() && got.Weight == 5 && got.Out
		})
	}
	leader = settle(t, nodes)
	until(t, "the new address among the servers", func() bool {
		for _, s := range leader.Servers() {
			if s.ID == moved.ServerID() {
				return s.Addr == moved.Addr()
			}
		}
		return false
	})
	if leader.State().Index <= index {
		t.Errorf("state %d is older than %d", leader.State().Index, index)
	}
}

// All nodes may be given other addresses at once, while they are stopped. No two
// would reach each other by those that the cluster has.
func TestAllNodesGetOtherAddresses(t *testing.T) {
	nodes, _ := formed(t, 3)
	var addresses []string
	for _, n := range nodes {
		n.stop()
		n.options.Listen = free(t)
		addresses = append(addresses, n.options.Listen)
	}
	for _, n := range nodes {
		n.options.Peers = addresses
		n.start()
	}
	leader := settle(t, nodes)
	for _, n := range nodes {
		until(t, "the new address of "+n.options.Name, func() bool {
			return leader.State().Nodes[n.options.Name].Listen == n.options.Listen && slices.ContainsFunc(leader.Servers(),
				func(s Server) bool { return s.ID == n.ServerID() && s.Addr == n.options.Listen })
		})
	}
}

func TestTwoNodesOfOneName(t *testing.T) {
	nodes, leader := formed(t, 3)
	refuse := fmt.Errorf("%w: n2 is alive", ErrNameTaken)
	for _, n := range nodes {
		n.stop()
		n.hooks.Admit = func(context.Context, Join) (func(error), error) { return func(error) {}, refuse }
		n.start()
	}
	settle(t, nodes)
	second := newNode(t, leader.options.Key, "n2", free(t), leader.options.Listen)
	if err := second.start().wait(); !errors.Is(err, ErrNameTaken) || !strings.Contains(err.Error(), "n2 is alive") {
		t.Errorf("second n2 ends with %v", err)
	}
	if n := len(nodes[0].Servers()); n != 3 {
		t.Errorf("%d servers", n)
	}
}

// A wiped node comes back under its name as a new server, and the disk that it
// had is a stranger from then on (P9).
func TestAWipedDiskReplacesAndItsFormerIsReplaced(t *testing.T) {
	nodes, leader := formed(t, 3)
	wiped := follower(nodes, leader)
	wiped.stop()
	former, id := wiped.options.DataDir, wiped.ServerID()
	wiped.options.DataDir = filepath.Join(t.TempDir(), "new")
	wiped.start()
	until(t, "the new disk in the state", func() bool {
		return leader.State().Nodes[wiped.options.Name].ServerID == wiped.ServerID()
	})
	settle(t, nodes)
	if wiped.ServerID() == id {
		t.Error("a new disk has the old id")
	}
	old := newNode(t, leader.options.Key, wiped.options.Name, free(t), wiped.options.Peers...)
	old.options.DataDir = former
	if err := old.start().wait(); !errors.Is(err, ErrReplaced) {
		t.Errorf("the former disk ends with %v", err)
	}
}

// P9: what is meant for a server reaches none but it, whoever has its address.
func TestP9AWipedVoterGetsNoCallsOfItsFormer(t *testing.T) {
	var log paper
	n := newNode(t, GenerateKey(), "n1", free(t))
	n.options.Log = log.logger()
	settle(t, []*node{n.start()})
	call := func(id string) error {
		n.mu.Lock()
		defer n.mu.Unlock()
		q := raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}
		return n.engine.transport.RequestVote(raft.ServerID(id), raft.ServerAddress(n.Addr()), &q, &raft.RequestVoteResponse{})
	}
	if err := call(n.ServerID()); err != nil {
		t.Errorf("a call of the server: %v", err)
	}
	if err := call("another"); err == nil || errors.Is(err, ErrWrongKey) {
		t.Errorf("a call for another server: %v", err)
	}
	until(t, "the end of the handshakes", func() bool {
		n.port.mu.Lock()
		defer n.port.mu.Unlock()
		return n.port.pending == 0
	})
	if _, err := n.greet(t.Context(), n.Addr()); err != nil {
		t.Error(err)
	}
	if strings.Contains(log.String(), "refused") {
		t.Errorf("such a call is no trouble: %s", log.String())
	}
}

// A voter that the leader cannot reach would cost a small cluster its quorum.
func TestAnUnreachableNodeIsNotAdmitted(t *testing.T) {
	_, leader := formed(t, 1)
	other := newNode(t, leader.options.Key, "n8", free(t), free(t)).start()
	for what, address := range map[string]string{"nobody": free(t), "another": other.Addr()} {
		err := leader.receive(t.Context(), request{Join: Join{Name: "n9", ServerID: "id9", Listen: address, Weight: 1}})
		if err == nil || len(leader.Servers()) != 1 || len(leader.State().Nodes) != 1 {
			t.Errorf("a node at whose address is %s: %v, servers %v", what, err, leader.Servers())
		}
	}
}

// Every goroutine is gone when Run returns, proposals under way or not.
func TestRunLeavesNoGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	nodes, leader := formed(t, 3)
	for range 20 {
		go func() { _, _ = leader.Propose(context.Background(), Command{Tick: &Tick{}}) }()
	}
	for _, n := range nodes {
		n.stop()
	}
	until(t, "the end of all goroutines", func() bool { return runtime.NumGoroutine() <= before })
}
