package sim

import (
	"context"

	"earshot/raftstore"
)

// storePort is the coordinator's way to the store. A process that is stopped
// may be so between any two steps of it.
type storePort struct {
	*process
	store *raftstore.Store
}

// State is asked under a lock, too, and so cannot wait.
func (s storePort) State() *raftstore.State { return s.store.State() }

func (s storePort) Changed() (<-chan struct{}, func()) { return s.store.Changed() }

func (s storePort) Propose(ctx context.Context, c raftstore.Command) (uint64, error) {
	s.pass()
	s.holdUp(c)
	index, err := s.store.Propose(ctx, c)
	s.pass()
	return index, err
}

func (s storePort) Leadership() raftstore.Leadership {
	s.pass()
	return s.store.Leadership()
}

// Term is asked under a lock, and so cannot wait.
func (s storePort) Term() uint64 { return s.store.Term() }

// LastCommand is asked under a lock, and so cannot wait.
func (s storePort) LastCommand() uint64 { return s.store.LastCommand() }

// LastChange is asked under a lock, and so cannot wait.
func (s storePort) LastChange() uint64 { return s.store.LastChange() }

func (s storePort) Servers() []raftstore.Server {
	s.pass()
	return s.store.Servers()
}

func (s storePort) ServerID() string { return s.store.ServerID() }
func (s storePort) Process() int64   { return s.store.Process() }

func (s storePort) Transfer(ctx context.Context) error {
	s.pass()
	return s.store.Transfer(ctx)
}

func (s storePort) Vote(ctx context.Context, server raftstore.Server, vote bool) error {
	s.pass()
	err := s.store.Vote(ctx, server, vote)
	s.pass()
	return err
}

func (s storePort) Expel(ctx context.Context, id string) error {
	s.pass()
	err := s.store.Expel(ctx, id)
	s.pass()
	return err
}

func (s storePort) Resign() {
	s.pass()
	s.store.Resign()
}

func (s storePort) SetWeight(weight int) { s.store.SetWeight(weight) }

func (s storePort) Halted() error { return s.store.Halted() }
