package raftstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
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

func TestTwoNodesOfOneName(t *testing.T) {
	nodes, leader := formed(t, 3)
	refuse := fmt.Errorf("%w: n2 is alive", ErrNameTaken)
	for _, n := range nodes {
		n.stop()
		n.hooks.Admit = func(context.Context, Join) error { return refuse }
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

func TestProposals(t *testing.T) {
	nodes, leader := formed(t, 3)
	if _, err := leader.Propose(t.Context(), Command{Wish: &Wish{Node: "nobody"}}); !errors.Is(err, ErrUnknownNode) || errors.Is(err, ErrUnknown) {
		t.Errorf("what Apply refuses: %v", err)
	}
	other := follower(nodes, leader)
	if _, err := other.Propose(t.Context(), Command{Tick: &Tick{}}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("on a follower: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := leader.Propose(ended, Command{Tick: &Tick{}}); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnknown) {
		t.Errorf("not begun: %v", err)
	}
	for _, n := range nodes {
		if n != leader {
			n.stop()
		}
	}
	if _, err := leader.Propose(t.Context(), Command{Tick: &Tick{}}); !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrNotLeader) {
		t.Errorf("without a quorum: %v", err)
	}
}

func TestTransferHandsOver(t *testing.T) {
	nodes, leader := formed(t, 3)
	if got := leader.Leadership(); got.Term != leader.Term() || got.Since.IsZero() || got.Addr != leader.Addr() {
		t.Errorf("leadership %+v in term %d", got, leader.Term())
	}
	if err := follower(nodes, leader).Transfer(t.Context()); err != nil {
		t.Errorf("transfer on a follower: %v", err)
	}
	if err := leader.Transfer(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "another leader", func() bool {
		for _, n := range nodes {
			if n != leader && n.Leadership().Self {
				return true
			}
		}
		return false
	})
}

// A leader with nobody to hand over to says so, and soon.
func TestTransferToNobody(t *testing.T) {
	_, leader := formed(t, 1)
	if err := leader.Transfer(t.Context()); !errors.Is(err, ErrNotHandedOver) || !leader.Leadership().Self {
		t.Fatalf("handed over to nobody: %v, leader still: %v", err, leader.Leadership().Self)
	}
}

// P3: the bound that a leader names is one that a state can have, whatever
// entries of Raft's own the log ends with.
func TestP3LastCommandIsReached(t *testing.T) {
	nodes, leader := formed(t, 3)
	for round := range 4 {
		index, err := leader.Propose(t.Context(), Command{Tick: &Tick{}})
		if err != nil {
			t.Fatal(err)
		}
		if round == 2 {
			if err := leader.raft().Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
		}
		old := leader
		old.stop()
		old.start() // its successor's log ends with an entry that begins a term
		leader = settle(t, nodes)
		until(t, "an entry of Raft's at the end of the log", func() bool { return leader.raft().LastIndex() > index })
		for _, n := range nodes {
			until(t, "the state of the last command", func() bool { return n.State().Index == index })
			if got := n.LastCommand(); got != index {
				t.Errorf("round %d: LastCommand of %s is %d, the newest is %d", round, n.options.Name, got, index)
			}
		}
	}
}

func TestANodeFarBehindGetsASnapshot(t *testing.T) {
	nodes, leader := formed(t, 3)
	behind := follower(nodes, leader)
	behind.stop()
	var index uint64
	for range 2*snapshotEvery + 1 {
		var err error
		if index, err = leader.Propose(t.Context(), Command{Rest: &Rest{Node: "n1", For: time.Second}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := leader.raft().Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	first, err := leader.logs.FirstIndex()
	if err != nil || first < snapshotEvery/2 {
		t.Fatalf("the log begins at %d, %v", first, err)
	}
	behind.start()
	until(t, "the snapshot", func() bool { return behind.State().Index == index })
	if behind.State().Nodes["n1"].Rest != time.Second || behind.LastCommand() != index {
		t.Errorf("state %+v, last command %d, want %d", behind.State(), behind.LastCommand(), index)
	}
}

func TestANewerCommandHaltsTheState(t *testing.T) {
	nodes, leader := formed(t, 1)
	before := leader.State()
	future := leader.raft().Apply([]byte(`{"v":99,"sing":{}}`), 0)
	if err := future.Error(); err != nil {
		t.Fatal(err)
	}
	if err, _ := future.Response().(error); !errors.Is(err, ErrVersion) || !errors.Is(leader.Halted(), ErrVersion) {
		t.Errorf("a newer command: %v, halted: %v", err, leader.Halted())
	}
	if _, err := leader.Propose(t.Context(), Command{Tick: &Tick{}}); !errors.Is(err, ErrVersion) {
		t.Errorf("a command after it: %v", err)
	}
	if leader.State() != before {
		t.Error("the state went on")
	}
	if err := leader.raft().Snapshot().Error(); err == nil {
		t.Error("a halted state was taken for a newer one in a snapshot")
	}
	nodes[0].stop()
	nodes[0].start()
	until(t, "the halt after a restart", func() bool { return errors.Is(nodes[0].Halted(), ErrVersion) })
}

func TestASecondAgentOnADataDirectory(t *testing.T) {
	n := newNode(t, GenerateKey(), "n1", free(t)).start()
	o := n.options
	o.Listen = free(t)
	if _, err := Open(o); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), o.DataDir) {
		t.Errorf("a second agent: %v", err)
	}
	o.DataDir = filepath.Join(t.TempDir(), "other")
	o.Listen = n.options.Listen
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), o.Listen) {
		t.Errorf("an address that is in use: %v", err)
	}
}

func TestADataDirectoryOfAnotherNode(t *testing.T) {
	n := newNode(t, GenerateKey(), "n1", free(t)).start()
	settle(t, []*node{n})
	n.stop()
	n.options.Name = "n2"
	if _, err := Open(n.options); !errors.Is(err, ErrOtherNode) {
		t.Errorf("n1's directory opened for n2: %v", err)
	}
	n.options.Name = "n1"
	if err := os.Remove(filepath.Join(n.options.DataDir, "raft.db")); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.stop() // no snapshot was left: it is simply a new node
}

// brokenDisk refuses writes when told to.
type brokenDisk struct {
	stable
	broken chan struct{}
}

var errDisk = errors.New("no space left on device")

func (b *brokenDisk) SetUint64(key []byte, value uint64) error {
	select {
	case <-b.broken:
		return errDisk
	default:
		return b.stable.SetUint64(key, value)
	}
}

// Raft panics when it cannot write its term, which takes the process down.
func TestAFullDiskEndsTheStoreInOrder(t *testing.T) {
	nodes, leader := formed(t, 3)
	full := follower(nodes, leader)
	full.stop()
	s, err := Open(full.options)
	if err != nil {
		t.Fatal(err)
	}
	broken := &brokenDisk{stable: s.disk.bolt, broken: make(chan struct{})}
	s.stable.StableStore = broken
	ended := make(chan error, 1)
	go func() { ended <- s.Run(t.Context(), Hooks{}) }()
	until(t, "the follower", func() bool { return s.Leadership().Addr == leader.Addr() })
	close(broken.broken)
	leader.stop() // an election needs a new term
	select {
	case err := <-ended:
		if !errors.Is(err, errDisk) || !strings.Contains(err.Error(), full.options.DataDir) {
			t.Errorf("Run ends with %v", err)
		}
	case <-time.After(patient):
		t.Fatal("Run does not end")
	}
}

// Every goroutine is gone when Run returns, proposals under way or not.
func TestRunLeavesNoGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	nodes, leader := formed(t, 3)
	for range 20 {
		go leader.Propose(context.Background(), Command{Tick: &Tick{}})
	}
	for _, n := range nodes {
		n.stop()
	}
	until(t, "the end of all goroutines", func() bool { return runtime.NumGoroutine() <= before })
}
