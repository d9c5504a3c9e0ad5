package sim

import (
	"errors"
	"sync"
	"time"
)

// mostNodes bounds a cluster.
const mostNodes = 8

// link is one direction between two nodes.
type link struct {
	cut  int           // by so many faults
	slow time.Duration // added to each message
	loss float64       // messages that have to be sent again
}

// network is what lies between the nodes: streams, as TCP gives them. What is
// lost comes later, or the connection breaks.
type network struct {
	world *world

	mu    sync.Mutex
	links [mostNodes][mostNodes]link
	heals chan struct{} // closed when a link is mended
	twice float64       // requests to the peers' API that come twice
}

func newNetwork(w *world) *network { return &network{world: w, heals: make(chan struct{})} }

// latency of a link, on average.
const latency = 150 * time.Microsecond

// resend is about what TCP waits before it sends a segment again.
const resend = 200 * time.Millisecond

var errUnreachable = errors.New("no route to host")

// change sets a link.
func (n *network) change(from, to int, f func(*link)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(&n.links[from][to])
	close(n.heals)
	n.heals = make(chan struct{})
}

// carry waits until a message is there. It returns an error when the
// connection broke, or giveUp is closed.
func (n *network) carry(from, to int, giveUp <-chan struct{}) error {
	n.world.clock.Store(time.Now().UnixNano())
	n.mu.Lock()
	l, heals := n.links[from][to], n.heals
	n.mu.Unlock()
	rng := n.world.rng
	delay := rng.around(latency) + l.slow
	if l.loss > 0 && rng.chance(l.loss) {
		if rng.chance(0.2) {
			return errUnreachable
		}
		delay += rng.around(resend)
	}
	if l.cut > 0 {
		if rng.chance(0.4) {
			// A new connection cannot be made.
			if err := wait(min(max(n.world.timing.Lease, 100*time.Millisecond), 2*time.Second), giveUp); err != nil {
				return err
			}
			return errUnreachable
		}
		// One that stands is patient: this comes when the link is mended.
		for l.cut > 0 {
			select {
			case <-heals:
			case <-giveUp:
				return errLate
			}
			n.mu.Lock()
			l, heals = n.links[from][to], n.heals
			n.mu.Unlock()
		}
		delay += rng.upTo(resend)
	}
	return wait(delay, giveUp)
}

// wait lets time pass.
func wait(d time.Duration, giveUp <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-giveUp:
		return errLate
	}
}

// doubles reports whether a request is to come twice.
func (n *network) doubles() bool {
	n.mu.Lock()
	twice := n.twice
	n.mu.Unlock()
	return twice > 0 && n.world.rng.chance(twice)
}
