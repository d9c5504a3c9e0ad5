// Package raftstore replicates the cluster's state among its nodes: what is
// decided (State, Command, Apply) is pure, and the rest makes sure that every
// node decides the same. It alone knows hashicorp/raft.
//
// Be aware:
//   - A State from Store.State is shared and never written to.
//   - A proposal that fails with ErrUnknown may still be carried out, later.
//   - Leadership says what this node believes. Another may have been elected
//     already: what must not be done by two nodes needs a fresh quorum (rule P2).
//   - The cluster key is the only proof of identity. Whoever has it can take
//     any node's name.
package raftstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"
)

// leastLease is the shortest lease that Raft's times can be derived from.
const leastLease = 40 * time.Millisecond

// Options says what a store needs to know.
type Options struct {
	Name    string        // the node's name
	Listen  string        // the peer port, ip:port
	Peers   []string      // addresses ip:port that find the cluster; may hold Listen
	DataDir string        // made if there is none
	Key     Key           // the cluster key
	Weight  int           // the node's share; below zero when it is not known yet
	Witness bool          // the node votes and never answers
	NoQueue bool          // the node's kernel cannot hold packets
	Lease   time.Duration // Raft's times follow from it
	Log     *slog.Logger
}

// check reports what is impossible.
func (o Options) check() error {
	if o.Name == "" {
		return errors.New("node has no name")
	}
	if o.Lease < leastLease {
		return fmt.Errorf("lease %s is below %s", o.Lease, leastLease)
	}
	for _, address := range append([]string{o.Listen}, o.Peers...) {
		if _, err := netip.ParseAddrPort(address); err != nil {
			return fmt.Errorf("peer address %q: %w", address, err)
		}
	}
	return nil
}

// Hooks are what a running store asks of the coordinator.
type Hooks struct {
	// API answers requests of the peers, everything but the store's own paths
	// below /form/.
	API http.Handler
	// Admit is asked on the leader before a server with a new id takes over a
	// known name, which is a node with a wiped disk or a second node of that
	// name. It refuses, wrapping ErrNameTaken, while the old one is alive.
	// Otherwise the old one is granted nothing, in the term that j names, until
	// settled is called with what became of the Join.
	Admit func(ctx context.Context, j Join) (settled func(error), err error)
}

// Leadership is what a node knows of the leader.
type Leadership struct {
	Term     uint64
	Addr     string // of the leader's peer port; empty when none is known
	ServerID string
	Self     bool
	Since    time.Time // when this node became the leader
}

// Server is a member of the Raft cluster.
type Server struct {
	ID    string
	Addr  string
	Voter bool
}

// Store is one node's copy of the replicated state.
type Store struct {
	options  Options
	log      *slog.Logger
	notes    *notes
	disk     *disk
	logs     *logStore
	stable   *stableStore
	identity *identity
	dialer   *dialer
	client   *http.Client
	port     *port // nil in an assembled store
	parts    *Parts
	hooks    Hooks
	fatal    chan error // what ends Run from below

	state  atomic.Pointer[State]
	halted atomic.Pointer[error]
	leads  atomic.Pointer[Leadership] // set while this node leads

	admitting chan struct{} // held while a server is admitted

	mu        sync.Mutex
	listeners map[chan struct{}]struct{}
	engine    *engine // nil while Raft does not run
	ended     bool
	proposals sync.WaitGroup
	heard     map[string]int // by server id, what a program reads

	weight  atomic.Int64 // as Options.Weight
	process int64
}

// Open locks the data directory and takes the peer port, so that what is wrong
// with them is known at once. It starts nothing. Run or Close must follow.
func Open(o Options) (*Store, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	disk, err := openDisk(o.DataDir, o.Name, &raftLog{log: o.Log})
	if err != nil {
		return nil, err
	}
	s := newStore(o, disk)
	if err := s.prepare(); err != nil {
		return nil, errors.Join(err, disk.bolt.Close())
	}
	return s, nil
}

func newStore(o Options, d *disk) *Store {
	s := &Store{
		options:   o,
		log:       o.Log,
		notes:     newNotes(o.Log),
		disk:      d,
		fatal:     make(chan error, 1),
		admitting: make(chan struct{}, 1),
		listeners: map[chan struct{}]struct{}{},
	}
	s.state.Store(NewState())
	s.weight.Store(int64(o.Weight))
	return s
}

// prepare makes the parts of a store whose disk is open.
func (s *Store) prepare() error {
	err := s.adopt()
	if err != nil {
		return fmt.Errorf("open data directory %s: %w", s.options.DataDir, err)
	}
	if s.identity, err = newIdentity(s.options.Key, s.options.Name, s.ServerID()); err != nil {
		return err
	}
	s.dialer = &dialer{identity: s.identity, timeout: dialTime(s.options.Lease)}
	s.client = s.dialer.client()
	s.port, err = listen(s.options.Listen, s.identity.server(), s.notes)
	if err != nil {
		return err
	}
	s.options.Listen = s.port.listener.Addr().String()
	return nil
}

// adopt makes the parts of a store that stand on its disk.
func (s *Store) adopt() error {
	if err := s.disk.keepRole(s.options.Witness); err != nil {
		return fmt.Errorf("open data directory %s: %w", s.options.DataDir, err)
	}
	s.stable = &stableStore{StableStore: s.disk.bolt, failed: s.fail}
	var err error
	if s.logs, err = newLogStore(s.disk.bolt, s.fail); err != nil {
		return err
	}
	fresh, err := s.disk.fresh()
	if err != nil {
		return err
	}
	s.logs.used.Store(!fresh)
	s.process = s.disk.start(time.Now())
	return nil
}

// Close gives up a store that Run was never called on.
func (s *Store) Close() error {
	err := s.port.listener.Close()
	return errors.Join(err, s.disk.bolt.Close())
}

// fail ends Run with an error. The first one counts.
func (s *Store) fail(err error) {
	select {
	case s.fatal <- fmt.Errorf("data directory %s: %w", s.options.DataDir, err):
	default:
	}
}

// Run serves the peer port, forms or joins the cluster or comes back to it,
// and takes part in it until the context ends (then it returns nil) or it
// cannot go on. Every goroutine of the store is gone when it returns.
func (s *Store) Run(ctx context.Context, hooks Hooks) error {
	s.hooks = hooks
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	group, ctx := errgroup.WithContext(ctx)
	if s.parts != nil {
		s.parts.Serve(s.handler())
	} else {
		group.Go(func() error { return s.port.run(serving) })
		group.Go(func() error { return s.serve(serving) })
	}
	group.Go(func() error { return s.takePart(ctx) })
	group.Go(func() error {
		select {
		case err := <-s.fatal:
			return err
		case <-ctx.Done():
			return nil
		}
	})
	group.Go(func() error {
		<-ctx.Done()
		s.endProposals() // 1. what was begun gets its answer
		s.stopRaft()     // 2. while the peers can still be reached
		stopServing()    // 3. nobody needs the port now
		return nil
	})
	err := group.Wait()
	s.client.CloseIdleConnections()
	return errors.Join(err, s.disk.bolt.Close())
}

// State returns the newest applied state. It is never nil and must not be
// written to.
func (s *Store) State() *State { return s.state.Load() }

// Changed returns a channel that is signalled after each new state and each
// change of leadership, several at once if they come fast, and a function that
// ends that.
func (s *Store) Changed() (<-chan struct{}, func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := make(chan struct{}, 1)
	s.listeners[c] = struct{}{}
	return c, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listeners, c)
	}
}

// signal tells the listeners that something is new.
func (s *Store) signal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.listeners {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// ServerID is the random id of this node's data directory (rule P9).
func (s *Store) ServerID() string { return s.disk.record().ServerID }

// Addr is the address of the peer port.
func (s *Store) Addr() string { return s.options.Listen }

// Process is a number for this process of the node: greater than that of all
// before it that used its data directory.
func (s *Store) Process() int64 { return s.process }

// Client returns an HTTP client for the peers' API, at https://ip:port/. It
// sets no limit to how long an answer takes: the request's context does.
func (s *Store) Client() *http.Client { return s.client }

// LastCommand is the index of the newest command in this node's log,
// committed or not. On a leader it is the bound that a grant names (rule P3).
func (s *Store) LastCommand() uint64 { return s.logs.newest.Load() }

// LastChange is the index of the newest command in this node's log, committed
// or not, that can change anything. Ticks come often, and a node whose kernel
// is slow to be told of one knows as much as any other.
func (s *Store) LastChange() uint64 { return s.logs.change.Load() }

// Term is Raft's current term.
func (s *Store) Term() uint64 {
	if r := s.raft(); r != nil {
		return r.CurrentTerm()
	}
	return 0
}

// Leadership says who leads, as far as this node knows.
func (s *Store) Leadership() Leadership {
	r := s.raft()
	if r == nil {
		return Leadership{}
	}
	if l := s.leads.Load(); l != nil && r.State() == raft.Leader && r.CurrentTerm() == l.Term {
		return *l
	}
	address, id := r.LeaderWithID()
	if string(id) == s.ServerID() {
		address, id = "", "" // elected, but not in office yet or any more
	}
	return Leadership{Term: r.CurrentTerm(), Addr: string(address), ServerID: string(id)}
}

// Servers lists the members of the Raft cluster by the latest configuration in
// the log, committed or not.
func (s *Store) Servers() []Server {
	r := s.raft()
	if r == nil {
		return nil
	}
	future := r.GetConfiguration()
	if future.Error() != nil {
		return nil
	}
	return serversOf(future.Configuration())
}
