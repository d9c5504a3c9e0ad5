package raftstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// The reasons for which a command changes nothing.
var (
	ErrVersion        = errors.New("written by a newer version of earshot")
	ErrCommand        = errors.New("malformed command")
	ErrStale          = errors.New("the map has changed meanwhile")
	ErrTerm           = errors.New("judged in another term")
	ErrUnknownNode    = errors.New("unknown node")
	ErrUnknownService = errors.New("unknown service")
	ErrNotServing     = errors.New("node cannot be given buckets")
	ErrLastNode       = errors.New("no other node is in: the buckets would have no owner")
	ErrWitness        = errors.New("a witness votes and never answers")
	ErrAlive          = errors.New("node is alive")
	ErrDefinition     = errors.New("impossible service")
	ErrDiffers        = errors.New("service is defined differently in the cluster")
	ErrRemoved        = errors.New("service was removed from the cluster")
	ErrRedefined      = errors.New("service has changed meanwhile")
	ErrFixed          = errors.New("cannot change while the service is there")
	ErrRestarting     = errors.New("a node is restarting and could not take the change in")
)

// Command is one entry of the log. Exactly one of the pointers is set. It
// carries the version that it needs.
type Command struct {
	Version int `json:"v"`

	Tick     *Tick     `json:"tick,omitempty"`
	Join     *Join     `json:"join,omitempty"`
	Define   *Define   `json:"define,omitempty"`
	Wish     *Wish     `json:"wish,omitempty"`
	Assign   *Assign   `json:"assign,omitempty"`
	Pin      *Pin      `json:"pin,omitempty"`
	EndDrain *EndDrain `json:"end_drain,omitempty"`
	Death    *Death    `json:"death,omitempty"`
	Return   *Return   `json:"return,omitempty"`
	Rest     *Rest     `json:"rest,omitempty"`
	Fitness  *Fitness  `json:"fitness,omitempty"`
	Forget   *Forget   `json:"forget,omitempty"`
	Redefine *Redefine `json:"redefine,omitempty"`
	Profile  *Profile  `json:"profile,omitempty"`
	Formed   *Formed   `json:"formed,omitempty"`
	Credit   *Credit   `json:"credit,omitempty"`
}

// Tick changes nothing. A leader commits one when it begins, so that it knows
// every earlier entry (rule P3), and at intervals, to prove that it still can
// (rule P10).
type Tick struct{}

// Join adds a node, or tells what has changed about it. Another ServerID
// under a known name is the same node with a new disk.
type Join struct {
	Name     string `json:"name"`
	ServerID string `json:"server_id"`
	Listen   string `json:"listen"`
	Weight   int    `json:"weight"`
	Witness  bool   `json:"witness,omitempty"`
	// Reads is the newest format of commands that the node reads; none is 1.
	Reads int `json:"reads,omitempty"`
	// NoQueue: the node's kernel cannot hold packets (rule P24).
	NoQueue bool `json:"no_queue,omitempty"`
	// Lease is how long the node may answer without hearing from the leader; zero
	// from one of an older version. See Node.
	Lease time.Duration `json:"lease,omitempty"`
	// Term is that of the leader who judged that the node which has the name is
	// dead. It rests on that leader's clock and so holds in its term alone (P7);
	// zero where there is no other node, or a member is too old for it.
	Term uint64 `json:"term,omitempty"`
}

// lease is what the state is to say of the node's lease, which says old: a
// restart may find a longer one in the kernel. The leader learns when it is over.
func (c Join) lease(old Node) time.Duration {
	if old.ServerID != c.ServerID {
		return c.Lease
	}
	return max(old.Lease, c.Lease)
}

// Define adds a service. Defining it again as it is changes nothing.
type Define struct {
	Definition Definition `json:"definition"`
	// Seed is chosen by whoever proposes the command; an existing service
	// keeps its own.
	Seed uint32 `json:"seed"`
}

// Wish takes a node out or brings it in.
type Wish struct {
	Node string `json:"node"`
	Out  bool   `json:"out"`
	// Cut: do not wait for the flows of a node that goes out.
	Cut bool `json:"cut,omitempty"`
}

// Move gives buckets of a service to a node.
type Move struct {
	Service string `json:"service"`
	Buckets string `json:"buckets"` // as hashmode.Set writes them
	To      string `json:"to"`
}

// String is the move in words, for logs.
func (m Move) String() string { return fmt.Sprintf("%s %s to %s", m.Service, m.Buckets, m.To) }

// Assign carries out a plan that was made from the state of the given epoch
// (rule P15).
type Assign struct {
	Epoch uint64 `json:"epoch"`
	Moves []Move `json:"moves"`
	// Shares are what the nodes have after moves because of the load, by service:
	// nobody is to even them out again.
	Shares map[string]map[string]Share `json:"shares,omitempty"`
}

// Pin moves buckets by hand and keeps them there. With Node empty it lets the
// plan have them again.
type Pin struct {
	Service string `json:"service"`
	Buckets string `json:"buckets"`
	Node    string `json:"node"`
}

// EndDrain says that a former owner has no flow left in the buckets, as seen
// under the state of index Seen.
type EndDrain struct {
	Node    string `json:"node"`
	Service string `json:"service"`
	Buckets string `json:"buckets"`
	Seen    uint64 `json:"seen"`
}

// Death says that a node is silent for good, and where its buckets go. It is
// one entry, so that no leader can know the half of it (rule P14). It rests
// on the clock of a leader and so holds in that leader's term alone (P7).
type Death struct {
	Node  string `json:"node"`
	Term  uint64 `json:"term"`
	Epoch uint64 `json:"epoch"`
	Moves []Move `json:"moves"`
}

// Forget takes a failed node out for good, and says where buckets go that it
// has still: one entry, and judged like a Death (rules P14, P7).
type Forget struct {
	Node  string `json:"node"`
	Term  uint64 `json:"term"`
	Epoch uint64 `json:"epoch"`
	Moves []Move `json:"moves"`
}

// Return says that a failed node was heard again and holds the map that took
// its buckets.
type Return struct {
	Node string `json:"node"`
	Term uint64 `json:"term"`
}

// Rest says that a node may go silent for the given time while it restarts
// and is not to be judged dead before it is over; zero ends that.
type Rest struct {
	Node string        `json:"node"`
	For  time.Duration `json:"for"`
	// By identifies the asking agent process (Store.Process). Where it ends a
	// rest it is the process that asked for that: another may have asked for
	// one since. Zero ends any.
	By int64 `json:"by,omitempty"`
}

// Fitness says which services a living node cannot serve now, and why. What it
// does not name, the node can serve.
type Fitness struct {
	Node  string            `json:"node"`
	Unfit map[string]string `json:"unfit"`
	// Spare: see Node.
	Spare map[string]bool `json:"spare,omitempty"`
}

// Encode writes the command.
func (c Command) Encode() ([]byte, error) {
	c.Version = c.format()
	return json.Marshal(c)
}

// DecodeCommand reads what Encode writes. It wraps ErrVersion for a command
// that this program is too old for: the state can then not be followed.
func DecodeCommand(data []byte) (Command, error) {
	var version struct {
		Version int `json:"v"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return Command{}, fmt.Errorf("decode command: %w: %w", ErrCommand, err)
	}
	if version.Version > CommandVersion {
		return Command{}, fmt.Errorf("decode command: %w: format %d, this program reads %d", ErrVersion, version.Version, CommandVersion)
	}
	var c Command
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return Command{}, fmt.Errorf("decode command: %w: %w", ErrCommand, err)
	}
	return c, nil
}
