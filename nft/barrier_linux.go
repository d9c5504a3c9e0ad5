package nft

import (
	"fmt"
	"maps"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"earshot/hashmode"
)

// membarrierGlobal is MEMBARRIER_CMD_GLOBAL.
const membarrierGlobal = 1

// Barrier waits until no packet is under way that met the rules as they were
// before the call (5 to 25 ms): what such packets opened is known to conntrack
// afterwards and has been answered, and those that the rules held are in the
// queue. It is the kernel's synchronize_rcu: packets are handled inside RCU's
// critical sections. Of buckets that were given away before it, no SYN-ACK leaves
// any more when it returns without an error.
func (p *Plane) Barrier() error {
	p.mu.Lock()
	closing := p.have.closing()
	p.mu.Unlock()
	if err := p.waitForPackets(); err != nil {
		return err
	}
	if len(closing) == 0 {
		return nil
	}
	return p.close(closing)
}

// waitForPackets returns when every packet that was under way has been handled.
func (p *Plane) waitForPackets() error {
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0); errno != 0 {
		return p.slowBarrier()
	}
	return nil
}

// slowBarrier does the same where membarrier is filtered, or refused for
// processors that are isolated (nohz_full): the kernel waits for the packets
// under way before it closes a packet socket.
func (p *Plane) slowBarrier() error {
	err := p.ns.do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	})
	if err != nil {
		return fmt.Errorf("wait for packets under way: %w", err)
	}
	return nil
}

// close ends the closing of buckets. Those that are being closed since stay.
func (p *Plane) close(closing map[setID]hashmode.Set) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	have, want := contents{buckets: map[setID]hashmode.Set{}}, contents{buckets: map[setID]hashmode.Set{}}
	for id, buckets := range closing {
		now := p.have.buckets[id]
		have.buckets[id], want.buckets[id] = now, now.Minus(buckets)
	}
	err := p.wire.transact(func(c *nftables.Conn) error { return fill(c, have, want) })
	if err != nil {
		return fmt.Errorf("close buckets: %w", err)
	}
	maps.Copy(p.have.buckets, want.buckets)
	return nil
}
