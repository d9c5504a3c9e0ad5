package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"
)

// Options say what to build. The zero value is a lab without nodes.
type Options struct {
	Nodes   int
	Clients int
	// Apart gives the agents a segment of their own, 192.168.57.0/24, which
	// can then fail by itself.
	Apart bool
	// Snooping has the switches watch IGMP and MLD, with a querier.
	Snooping bool
	// Services of every node's config.
	Services map[string]Service
	// Lease of every node's config; default 300 ms.
	Lease time.Duration
	// Bin is the earshot program; nodes without one cannot run agents.
	Bin string
	// Dir holds the nodes' files; default: a private tmpfs.
	Dir string
}

// Lab is a running network.
type Lab struct {
	Nodes   []*Node
	Clients []*Client
	Service *Segment // 192.168.56.0/24
	Cluster *Segment // 192.168.57.0/24, or nil
	Key     string   // the cluster key, from `earshot keygen`; empty without Bin

	fabric  *Namespace // holds the switches
	routers []*Router
	dir     string
	options Options
	cuts    map[cut]bool
}

// defaultLease is the contract's own.
const defaultLease = 300 * time.Millisecond

// New builds a lab. Close it.
func New(o Options) (*Lab, error) {
	if o.Lease == 0 {
		o.Lease = defaultLease
	}
	dir, err := os.MkdirTemp(o.Dir, "lab")
	if err != nil {
		return nil, err
	}
	l := &Lab{dir: dir, options: o, cuts: map[cut]bool{}}
	if err := l.build(); err != nil {
		return nil, errors.Join(fmt.Errorf("build lab: %w", err), l.Close())
	}
	return l, nil
}

// build makes the switches, then the clients, then the nodes.
func (l *Lab) build() error {
	var err error
	if l.fabric, err = NewNamespace("switch"); err != nil {
		return err
	}
	if l.Service, err = l.segment("service", "eth1", 56); err != nil {
		return err
	}
	if l.options.Apart {
		if l.Cluster, err = l.segment("cluster", "eth2", 57); err != nil {
			return err
		}
	}
	for i := range l.options.Clients {
		c, err := newClient(l.Service, i)
		if err != nil {
			return err
		}
		l.Clients = append(l.Clients, c)
	}
	for range l.options.Nodes {
		if _, err := l.AddNode(); err != nil {
			return err
		}
	}
	l.introduce()
	return l.makeKey()
}

// segment makes the switch of 192.168.<number>.0/24.
func (l *Lab) segment(name, device string, number byte) (*Segment, error) {
	return newSegment(l.fabric, Segment{
		Name: name, device: device, number: number,
		Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, number, 0}), 24),
		IPv6:   netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 3: number}), 64),
	}, l.options.Snooping)
}

// AddNode adds one more host. Its config names the peers that the lab has, and
// it gets the cluster's key; the others are not told of it.
func (l *Lab) AddNode() (*Node, error) {
	n, err := newNode(l, len(l.Nodes))
	if err != nil {
		return nil, err
	}
	l.Nodes = append(l.Nodes, n)
	n.Config.Peers = l.peers()
	if err := l.routes(n); err != nil {
		return nil, err
	}
	if l.Key == "" {
		return n, nil
	}
	return n, n.WriteKey(l.Key)
}

// peers are the addresses of all agents.
func (l *Lab) peers() []string {
	var peers []string
	for _, n := range l.Nodes {
		peers = append(peers, n.Address())
	}
	return peers
}

// introduce writes all nodes into every node's config.
func (l *Lab) introduce() {
	for _, n := range l.Nodes {
		n.Config.Peers = l.peers()
	}
}

// makeKey has the first node make a key and gives it to all.
func (l *Lab) makeKey() error {
	if l.options.Bin == "" || len(l.Nodes) == 0 {
		return nil
	}
	r, err := l.Nodes[0].Run("keygen", "-")
	if err != nil {
		return err
	}
	if l.Key = strings.TrimSpace(r.Stdout); r.Code != 0 || l.Key == "" {
		return fmt.Errorf("earshot keygen: exit status %d: %s", r.Code, r.Stderr)
	}
	for _, n := range l.Nodes {
		if err := n.WriteKey(l.Key); err != nil {
			return err
		}
	}
	return nil
}

// Node returns the node of that name, or nil.
func (l *Lab) Node(name string) *Node {
	for _, n := range l.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// StartAll starts the agents of all nodes that do not run.
func (l *Lab) StartAll() error {
	for _, n := range l.Nodes {
		if n.Running() {
			continue
		}
		if err := n.Start(); err != nil {
			return err
		}
	}
	return nil
}

// KillAll kills all agents, as near to at once as signals go.
func (l *Lab) KillAll() error {
	for _, n := range l.Nodes {
		if n.Running() {
			if err := n.agent.cmd.Process.Kill(); err != nil {
				return fmt.Errorf("kill agent of %s: %w", n.Name, err)
			}
		}
	}
	for _, n := range l.Nodes {
		if n.agent != nil {
			<-n.agent.Done()
		}
	}
	return nil
}

// Close kills everything in the lab and removes it.
func (l *Lab) Close() error {
	var errs []error
	for _, n := range l.Nodes {
		errs = append(errs, n.close())
	}
	for _, c := range l.Clients {
		c.Close()
	}
	for _, r := range l.routers {
		r.close()
	}
	if l.fabric != nil {
		l.fabric.Close()
	}
	return errors.Join(append(errs, os.RemoveAll(l.dir))...)
}

// Start builds a lab for a test. When the test fails, the logs of all agents
// are shown, and what their rules have counted.
func Start(t T, o Options) *Lab {
	t.Helper()
	l, err := New(o)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range l.Nodes {
				counters, err := n.Counters()
				t.Logf("rules of %s: %v\n%slog of %s:\n%s", n.Name, err, counters, n.Name, n.Log())
			}
		}
		if err := l.Close(); err != nil {
			t.Errorf("close lab: %v", err)
		}
	})
	return l
}
