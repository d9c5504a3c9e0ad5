package raftstore

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// patient is how long a test waits for what should take far less.
const patient = 30 * time.Second

// until polls for a condition.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(patient)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting for %s", what)
		}
		pause(t.Context(), 2*time.Millisecond)
	}
}

// logger writes a test's log to standard error under RAFTSTORE_LOG.
func logger(name string) *slog.Logger {
	var least slog.Level
	if os.Getenv("RAFTSTORE_LOG") == "" || least.UnmarshalText([]byte(os.Getenv("RAFTSTORE_LOG"))) != nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: least})).With("store", name)
}

// given are the addresses that free has returned.
var given sync.Map

// free returns an address of this host that nobody has at the moment, each once:
// the kernel may give a port again as soon as it is closed.
func free(t testing.TB) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().String()
		l.Close()
		if _, again := given.LoadOrStore(address, true); !again {
			return address
		}
	}
}

// node is a store under test that can be stopped and started again.
type node struct {
	t       testing.TB
	options Options
	hooks   Hooks

	*Store
	cancel context.CancelFunc
	mu     sync.Mutex
	err    error
	ended  chan struct{}
}

// newNode describes a node; start starts it.
func newNode(t testing.TB, key Key, name, listen string, peers ...string) *node {
	n := &node{t: t, options: Options{
		Name: name, Listen: listen, Peers: peers, Key: key, Weight: 1,
		DataDir: filepath.Join(t.TempDir(), name), Lease: time.Second, Log: logger(name),
	}}
	t.Cleanup(n.stop)
	return n
}

func (n *node) start() *node {
	n.t.Helper()
	s, err := Open(n.options)
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.Store, n.cancel, n.ended = s, cancel, make(chan struct{})
	go func() {
		defer close(n.ended)
		err := s.Run(ctx, n.hooks)
		n.mu.Lock()
		defer n.mu.Unlock()
		n.err = err
	}()
	return n
}

// stop ends the node's Run, if it runs.
func (n *node) stop() {
	if n.cancel == nil {
		return
	}
	n.cancel()
	_ = n.wait() // a test that wants to know asks itself
	n.cancel = nil
}

// wait returns what Run has returned.
func (n *node) wait() error {
	n.t.Helper()
	select {
	case <-n.ended:
	case <-time.After(patient):
		n.t.Fatalf("%s does not end", n.options.Name)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

// cluster makes n nodes that list each other, and starts none.
func cluster(t testing.TB, n int) []*node {
	key := GenerateKey()
	var all []string
	for range n {
		all = append(all, free(t))
	}
	var nodes []*node
	for i, listen := range all {
		nodes = append(nodes, newNode(t, key, fmt.Sprintf("n%d", i+1), listen, all...))
	}
	return nodes
}

// settle waits until all nodes know each other and agree about the leader.
func settle(t testing.TB, nodes []*node) *node {
	t.Helper()
	var leader *node
	until(t, "a settled cluster", func() bool {
		leader = nil
		for _, n := range nodes {
			if len(n.State().Nodes) != len(nodes) || len(n.Servers()) != len(nodes) {
				return false
			}
			if n.Leadership().Self {
				leader = n
			}
		}
		if leader == nil {
			return false
		}
		for _, n := range nodes {
			if n.Leadership().ServerID != leader.ServerID() {
				return false
			}
		}
		return true
	})
	return leader
}

func TestThreeNodesFormOneCluster(t *testing.T) {
	nodes := cluster(t, 3)
	for _, n := range nodes {
		n.start()
	}
	leader := settle(t, nodes)
	index, err := leader.Propose(t.Context(), Command{Wish: &Wish{Node: "n2", Out: true}})
	if err != nil {
		t.Fatal(err)
	}
	if got := leader.LastCommand(); got != index {
		t.Errorf("LastCommand = %d after command %d", got, index)
	}
	for _, n := range nodes {
		until(t, "the command on "+n.options.Name, func() bool { return n.State().Nodes["n2"].Out })
		if got := n.State().Index; got != index {
			t.Errorf("%s has state %d, not %d", n.options.Name, got, index)
		}
	}
}
