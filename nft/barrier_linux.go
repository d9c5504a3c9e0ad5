package nft

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// membarrierGlobal is MEMBARRIER_CMD_GLOBAL.
const membarrierGlobal = 1

// Barrier waits until no packet is under way that met the rules as they were
// before the call (5 to 25 ms): what such packets opened is known to conntrack
// afterwards, and those that the rules held are in the queue. It is the
// kernel's synchronize_rcu: packets are handled inside RCU's critical sections.
func (p *Plane) Barrier() error {
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
