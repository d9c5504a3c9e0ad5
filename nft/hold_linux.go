package nft

import (
	"context"
	"errors"
	"time"
)

const (
	// QueueNumber is the number of the queue that held packets wait in. One
	// number can be used once in a network namespace.
	QueueNumber = 7440
	// TheirsTime is how long a flow counts as a peer's after the verdict
	// Theirs. It is shorter than the time after which the peer's conntrack
	// forgets a flow, so that the peer is asked again while it still knows.
	TheirsTime = 10 * time.Second
	// HoldLimit is the longest that a packet waits for its verdict.
	HoldLimit = 3 * time.Second
)

// ErrQueueTaken: another program has bound our queue.
var ErrQueueTaken = errors.New("the queue is taken")

// Queue tells by which means this kernel can hold packets.
func (p *Plane) Queue() Queue { return QueueNone }

// Hold binds the queue, calls ready once it is bound, and gives judge what is
// held until ctx ends, in batches as it comes. judge must return soon: while
// it runs nothing is read. It keeps nothing of the slice. What is undecided
// when Hold returns is dropped by the kernel. It returns ErrQueueTaken when
// another program has the queue.
func (p *Plane) Hold(ctx context.Context, ready func(), judge func([]HeldPacket)) error {
	return &UnsupportedError{Feature: "holding packets", Needs: "nf_tables queue or xtables NFQUEUE"}
}

// Decide gives verdicts on held packets. Each packet is decided about once:
// later decisions, and those on packets that are gone, are ignored. A Pass
// drops the packet if by now its bucket is none that this node owns, inherits
// or takes, or if the lease has ended. What is passed is known to conntrack
// when Decide returns.
func (p *Plane) Decide(decisions []Decision) error { return nil }

// AskAgain forgets which flows are a peer's: the next packet of each is held.
// Call it when a former owner has died.
func (p *Plane) AskAgain() error { return nil }

// Known reports for each flow whether this node has it: whether conntrack
// lists it in this direction and, for TCP, not in TIME_WAIT or CLOSE.
func (p *Plane) Known(flows []Flow) ([]bool, error) { return make([]bool, len(flows)), nil }

// Barrier waits until no packet is under way that met the rules as they were
// before the call (5 to 25 ms): what such packets opened is known to conntrack
// afterwards, and those that the rules held are in the queue.
func (p *Plane) Barrier() error { return nil }

// HoldUse tells what became of held packets.
func (p *Plane) HoldUse() HoldUse { return HoldUse{} }

// Conntrack tells how full the kernel's table of flows is.
func (p *Plane) Conntrack() (ConntrackUse, error) { return ConntrackUse{}, nil }
