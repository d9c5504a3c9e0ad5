package sim

import (
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"bytes"

	"github.com/hashicorp/raft"

	"earshot/raftstore"
)

// raftPort carries Raft's calls of one process, as raft.NetworkTransport does:
// each is answered or fails when its time is over, and may be carried out
// though its caller has given it up.
type raftPort struct {
	*process
	calls chan raft.RPC
	once  sync.Once
	done  chan struct{}

	hmu       sync.Mutex
	heartbeat func(raft.RPC)
}

func newRaftPort(p *process) *raftPort {
	r := &raftPort{process: p, calls: make(chan raft.RPC), done: make(chan struct{})}
	p.mu.Lock()
	p.raft = r
	p.mu.Unlock()
	return r
}

func (r *raftPort) Consumer() <-chan raft.RPC                               { return r.calls }
func (r *raftPort) LocalAddr() raft.ServerAddress                           { return raft.ServerAddress(r.node.addr) }
func (r *raftPort) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }
func (r *raftPort) DecodePeer(b []byte) raft.ServerAddress                  { return raft.ServerAddress(b) }
func (r *raftPort) CloseStreams()                                           {}

func (r *raftPort) SetHeartbeatHandler(f func(raft.RPC)) {
	r.hmu.Lock()
	defer r.hmu.Unlock()
	r.heartbeat = f
}

func (r *raftPort) Close() error {
	r.once.Do(func() { close(r.done) })
	return nil
}

func (r *raftPort) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported // rule P10
}

func (r *raftPort) AppendEntries(_ raft.ServerID, to raft.ServerAddress, q *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse) error {
	copied := *q
	return callInto(r, to, &copied, nil, a)
}

func (r *raftPort) RequestVote(_ raft.ServerID, to raft.ServerAddress, q *raft.RequestVoteRequest, a *raft.RequestVoteResponse) error {
	copied := *q
	return callInto(r, to, &copied, nil, a)
}

func (r *raftPort) RequestPreVote(_ raft.ServerID, to raft.ServerAddress, q *raft.RequestPreVoteRequest, a *raft.RequestPreVoteResponse) error {
	copied := *q
	return callInto(r, to, &copied, nil, a)
}

func (r *raftPort) TimeoutNow(_ raft.ServerID, to raft.ServerAddress, q *raft.TimeoutNowRequest, a *raft.TimeoutNowResponse) error {
	copied := *q
	return callInto(r, to, &copied, nil, a)
}

func (r *raftPort) InstallSnapshot(_ raft.ServerID, to raft.ServerAddress, q *raft.InstallSnapshotRequest, a *raft.InstallSnapshotResponse, data io.Reader) error {
	copied := *q
	all, err := io.ReadAll(data)
	if err != nil {
		return err
	}
	return callInto(r, to, &copied, all, a)
}

func callInto[Answer any](r *raftPort, to raft.ServerAddress, command any, data []byte, a *Answer) error {
	giveUp := make(chan struct{})
	timer := time.AfterFunc(raftstore.CallTime(r.node.world.timing.Lease), func() { close(giveUp) })
	defer timer.Stop()
	response, err := r.call(string(to), command, data, giveUp)
	if !r.pass() {
		return errGone
	}
	if err != nil {
		return err
	}
	*a = *response.(*Answer)
	return nil
}

// call makes a call and waits for its answer.
func (r *raftPort) call(to string, command any, data []byte, giveUp <-chan struct{}) (any, error) {
	if !r.pass() {
		return nil, errGone
	}
	id, addr, _ := strings.Cut(to, "@")
	target := r.node.world.at(addr)
	if target == nil {
		return nil, errUnreachable
	}
	net := r.node.world.network
	if err := net.carry(r.node.i, target.i, giveUp); err != nil {
		if errors.Is(err, errLate) && r.node.world.rng.chance(0.3) {
			r.node.world.lately(r.node, target, func() { _, _ = deliver(target, id, command, data, nil) })
		}
		return nil, err
	}
	response, err := deliver(target, id, command, data, giveUp)
	if err != nil {
		return nil, err
	}
	if err := net.carry(target.i, r.node.i, giveUp); err != nil {
		return nil, err
	}
	return response, nil
}

// deliver hands a call to whoever runs at the target.
func deliver(target *node, id string, command any, data []byte, giveUp <-chan struct{}) (any, error) {
	p := target.running()
	if p == nil {
		return nil, errUnreachable
	}
	if err := p.passBy(giveUp); err != nil {
		return nil, err
	}
	p.mu.Lock()
	port := p.raft
	p.mu.Unlock()
	if port == nil || p.store.ServerID() != id { // rule P9
		return nil, errUnreachable
	}
	answer := make(chan raft.RPCResponse, 1)
	call := raft.RPC{Command: command, RespChan: answer}
	if data != nil {
		call.Reader = bytes.NewReader(data)
	}
	port.hmu.Lock()
	heartbeat := port.heartbeat
	port.hmu.Unlock()
	if isHeartbeat(command) && heartbeat != nil {
		go heartbeat(call)
	} else {
		select {
		case port.calls <- call:
		case <-port.done:
			return nil, errUnreachable
		case <-giveUp:
			return nil, errLate
		}
	}
	select {
	case response := <-answer:
		if err := p.passBy(giveUp); err != nil {
			return nil, err
		}
		return response.Response, response.Error
	case <-port.done:
		return nil, errUnreachable
	case <-giveUp:
		return nil, errLate
	}
}

// isHeartbeat tells a heartbeat as raft.NetworkTransport does.
func isHeartbeat(command any) bool {
	q, ok := command.(*raft.AppendEntriesRequest)
	return ok && q.PrevLogEntry == 0 && q.PrevLogTerm == 0 && len(q.Entries) == 0 && q.LeaderCommitIndex == 0
}
