package raftstore

import (
	"context"
	"log/slog"
	"sync"

	"github.com/hashicorp/raft"
)

// whereabouts are addresses at which servers were found that are not those that
// the cluster has.
type whereabouts struct {
	mu    sync.Mutex
	moves map[raft.ServerID]move
}

// move is from the address that the cluster has to another. Once the cluster has
// another one, too, it is forgotten.
type move struct{ from, to raft.ServerAddress }

// found notes where a server is.
func (w *whereabouts) found(id raft.ServerID, from, to raft.ServerAddress) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.moves == nil {
		w.moves = map[raft.ServerID]move{}
	}
	w.moves[id] = move{from, to}
}

// of is where to call a server that has the address for the cluster.
func (w *whereabouts) of(id raft.ServerID, address raft.ServerAddress) raft.ServerAddress {
	w.mu.Lock()
	defer w.mu.Unlock()
	m, known := w.moves[id]
	switch {
	case !known:
		return address
	case m.from != address:
		delete(w.moves, id)
		return address
	}
	return m.to
}

// forget says that a server is where the cluster has it.
func (w *whereabouts) forget(id raft.ServerID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.moves, id)
}

// seek looks for the other servers where the config leads to. The addresses that
// the cluster has are corrected by its leader, so if most of the voters were given
// others while they were stopped, nobody could be elected who might. Who answers a
// call has to prove its id (rule P9), wherever it is.
func (s *Store) seek(ctx context.Context) {
	seen := s.look(ctx).seen
	at := map[string]string{}
	for address, h := range seen {
		at[h.ServerID] = address
	}
	s.mu.Lock()
	e := s.engine
	s.mu.Unlock()
	if e == nil {
		return
	}
	for _, server := range s.Servers() {
		id, to := raft.ServerID(server.ID), at[server.ID]
		switch {
		case seen[server.Addr].ServerID == server.ID:
			e.transport.whereabouts.forget(id)
		case to != "":
			e.transport.whereabouts.found(id, raft.ServerAddress(server.Addr), raft.ServerAddress(to))
			s.notes.say(slog.LevelInfo, "moved "+server.ID, "a server has another address than the cluster knows", "known", server.Addr, "has", to)
		}
	}
}
