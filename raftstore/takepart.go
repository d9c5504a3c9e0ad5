package raftstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// formEvery is the pace of a node that is in no cluster yet.
	formEvery = 100 * time.Millisecond
	// keepEvery is the pace at which a member checks that it still is one.
	keepEvery = time.Second
	// tellEvery is the pace at which a node says what commands it reads, while
	// the cluster cannot write it down.
	tellEvery = 2 * time.Second
	// stubborn is how long a node tries again when no peer has its key.
	stubborn = 3 * time.Second
	// longestRest is how long the cluster may wait for a node that stopped: a
	// restart lease of the usual length. A cluster that has just started may
	// wait for ten leases.
	longestRest = 12 * time.Second
)

// takePart brings the node into a cluster and keeps it there. It returns an
// error when that has become impossible, and nil when the context ends.
func (s *Store) takePart(ctx context.Context) error {
	if s.logs.used.Load() {
		if err := s.startRaft(); err != nil {
			return err
		}
	} else if err := s.form(ctx); err != nil {
		return err
	}
	return s.keep(ctx)
}

// form returns when the node has formed a cluster or joined one.
func (s *Store) form(ctx context.Context) error {
	var refused, strange patience
	for ctx.Err() == nil {
		if s.logs.used.Load() {
			return nil // the answer to a join was lost, not the join
		}
		v := s.look(ctx)
		if strange.over(onlyOtherKeys(v), stubborn) {
			return fmt.Errorf("find cluster: %w", onlyOtherKeys(v))
		}
		next := decide(v)
		if next.act == actJoin {
			err := s.enter(ctx, next.nodes)
			if err == nil {
				return nil
			}
			if refused.over(final(err), s.graceful(err)) {
				return err
			}
		}
		done, err := s.carryOut(ctx, next)
		if done || err != nil {
			return err
		}
		pause(ctx, formEvery)
	}
	return nil
}

// carryOut does what decide has decided, and reports whether the node has
// formed a cluster by it.
func (s *Store) carryOut(ctx context.Context, next step) (bool, error) {
	switch next.act {
	case actStand:
		ballot := make([]byte, 16)
		rand.Read(ballot) // never fails
		return false, s.bind(promise{ServerID: s.ServerID(), Listen: s.Addr(), Ballot: hex.EncodeToString(ballot)})
	case actPromise:
		return false, s.bind(next.promise)
	case actBootstrap:
		if ctx.Err() != nil {
			return false, nil
		}
		s.stopRaft() // it may have been started to join a cluster that is gone
		if s.logs.used.Load() {
			return true, s.startRaft() // and have been let in after all
		}
		if err := s.disk.bootstrap(s.Addr()); err != nil {
			return false, fmt.Errorf("form cluster: %w", err)
		}
		s.logs.used.Store(true)
		s.log.Info("formed a cluster", "node", s.options.Name, "listen", s.Addr())
		return true, s.startRaft()
	case actWait:
		s.notes.say(slog.LevelInfo, fmt.Sprint("wait ", next.nodes), "waiting to form a cluster", "for", strings.Join(next.nodes, " "), "because", next.why)
	}
	return false, nil
}

// bind writes a promise down.
func (s *Store) bind(p promise) error {
	if err := s.disk.update(func(r *record) { r.Promise = p }); err != nil {
		return fmt.Errorf("promise to %s: %w", p.Listen, err)
	}
	return nil
}

// look asks every node that the list leads to what it is.
func (s *Store) look(ctx context.Context) view {
	v := view{self: s.self(), seen: map[string]hello{}, silent: map[string]error{}}
	var mu sync.Mutex
	for todo := v.unasked(); len(todo) > 0 && ctx.Err() == nil; todo = v.unasked() {
		var group sync.WaitGroup
		for _, address := range todo {
			group.Go(func() {
				h, err := s.greet(ctx, address)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					v.silent[address] = err
				} else {
					v.seen[address] = h
				}
			})
		}
		group.Wait()
	}
	return v
}

// onlyOtherKeys returns an error if there are peers and all have another key.
func onlyOtherKeys(v view) error {
	if len(v.seen) > 0 {
		return nil
	}
	var last error
	for _, err := range v.silent {
		if !errors.Is(err, ErrWrongKey) {
			return nil
		}
		last = err
	}
	return last
}

// enter joins the cluster of the given members. Raft runs by then, since the
// leader counts on it at once.
func (s *Store) enter(ctx context.Context, members []string) error {
	if err := s.startRaft(); err != nil {
		return err
	}
	r := s.wish()
	var last error
	for _, address := range members {
		err := s.post(ctx, address, r, false)
		if err == nil || final(err) != nil {
			return err
		}
		last = err
	}
	s.notes.say(slog.LevelInfo, "join", "waiting to join the cluster", "members", strings.Join(members, " "), "error", last)
	return last
}

// wish is the request to be a member as this node is now.
func (s *Store) wish() request {
	rec := s.disk.record()
	return request{
		Join: Join{
			Name: rec.Name, ServerID: rec.ServerID, Listen: s.Addr(), Weight: s.ownWeight(),
			Witness: s.options.Witness, Reads: CommandVersion, NoQueue: s.options.NoQueue, Lease: s.options.Lease,
		},
		Resumed: rec.Joined,
	}
}

// final returns an error that trying again will not change, or only time.
func final(err error) error {
	for _, e := range []error{ErrNameTaken, ErrReplaced, ErrForgotten, ErrOtherNode, ErrAddressTaken, ErrTooOld, ErrOldMember} {
		if errors.Is(err, e) {
			return err
		}
	}
	return nil
}

// graceful is how long a refusal is not believed: a name or an address that
// looks taken may be that of this node before its disk was wiped, until its
// lease is over, and a member that was just upgraded may have to say so yet.
func (s *Store) graceful(err error) time.Duration {
	if errors.Is(err, ErrNameTaken) || errors.Is(err, ErrAddressTaken) || errors.Is(err, ErrOldMember) {
		return max(longestRest, 12*s.options.Lease)
	}
	return 0
}

// patience measures how long an error has lasted.
type patience struct{ since time.Time }

// over reports whether an error is there and has been for so long.
func (p *patience) over(err error, limit time.Duration) bool {
	if err == nil {
		p.since = time.Time{}
		return false
	}
	if p.since.IsZero() {
		p.since = time.Now()
	}
	return time.Since(p.since) >= limit
}

// keep sees to it that the cluster knows this node as it is. A member that
// sees itself in the state and hears the leader has nothing to do; else it
// asks to join again, which corrects what has changed, or tells it that it has
// been replaced.
func (s *Store) keep(ctx context.Context) error {
	changed, cancel := s.Changed()
	defer cancel()
	var unknown, refused, untold patience
	var sought time.Time
	for {
		err := s.known()
		if err == nil {
			if err := s.remember(); err != nil {
				return err
			}
		}
		// An older leader has no place for what this program reads; a newer
		// one has, as soon as nobody is older.
		if err == nil && untold.over(s.untold(), s.tellAfter()) {
			untold = patience{}
			if err := s.rejoin(ctx); err != nil {
				s.log.Debug("cannot tell what this program reads", "error", err)
			}
		}
		// A restarted node may only have to hear from the leader again.
		if unknown.over(err, s.wait()) {
			refusal := s.rejoin(ctx)
			if refused.over(final(refusal), s.graceful(refusal)) {
				return refusal
			}
			if errors.Is(err, errNoLeader) && time.Since(sought) >= keepEvery {
				s.seek(ctx)
				sought = time.Now()
			}
		}
		if !s.next(ctx, err == nil, changed) {
			return nil
		}
	}
}

// next waits until it is time to look again: soon, or when something changes
// that may end what is wrong. It reports whether the context goes on.
func (s *Store) next(ctx context.Context, settled bool, changed <-chan struct{}) bool {
	every := formEvery
	if settled {
		every, changed = keepEvery, nil
	}
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-changed:
			if s.known() == nil {
				return true
			}
		}
	}
}

// wait is how long a node that is not known waits for the log to tell
// otherwise before it asks.
func (s *Store) wait() time.Duration {
	if s.Leadership().Self {
		return 0
	}
	return max(time.Second, 2*s.options.Lease)
}

var errNotKnown = errors.New("the cluster does not know this node as it is")

// known reports why the node cannot tell that it is a member as it should be.
func (s *Store) known() error {
	if l := s.Leadership(); l.Addr == "" {
		return errNoLeader
	}
	w := s.wish()
	n := s.State().Nodes[w.Name]
	if n.ServerID != w.ServerID || n.Listen != w.Listen || n.Weight != w.Weight || n.Witness != w.Witness {
		return errNotKnown
	}
	return nil
}

var errUntold = errors.New("the cluster does not know what this node can do")

// untold returns errUntold until the state says what this program reads and
// what the kernel below it can do.
func (s *Store) untold() error {
	n := s.State().Nodes[s.options.Name]
	if n.Reads != CommandVersion || n.NoQueue != s.options.NoQueue || n.Lease < s.options.Lease {
		return errUntold
	}
	return nil
}

// tellAfter is how long untold waits before the node says it again. Without its
// lease in the state it is granted none.
func (s *Store) tellAfter() time.Duration {
	if s.State().Nodes[s.options.Name].Lease < s.options.Lease {
		return tellEvery / 8
	}
	return tellEvery
}

// remember writes down that the cluster has known this node.
func (s *Store) remember() error {
	if s.disk.record().Joined {
		return nil
	}
	return s.disk.update(func(r *record) { r.Joined, r.Promise = true, promise{} })
}

// rejoin asks the leader, through whomever it can, to correct what the cluster
// knows of this node.
func (s *Store) rejoin(ctx context.Context) error {
	l := s.Leadership()
	if l.Self {
		ctx, cancel := context.WithTimeout(ctx, joinTime)
		defer cancel()
		return s.receive(ctx, s.wish())
	}
	members := []string{l.Addr}
	for _, server := range s.Servers() {
		members = append(members, server.Addr)
	}
	for _, n := range s.State().Nodes {
		members = append(members, n.Listen)
	}
	slices.Sort(members[1:])
	members = slices.Compact(append(members, s.options.Peers...))
	members = slices.DeleteFunc(members, func(a string) bool { return a == "" || a == s.Addr() })
	if len(members) == 0 {
		return errNoLeader
	}
	return s.enter(ctx, members)
}
