package nft

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// membarrierGlobal is MEMBARRIER_CMD_GLOBAL (linux/membarrier.h).
const membarrierGlobal = 1

// Barrier waits until no packet is under way that met the rules or sets as
// they were before: some 5 to 25 ms. Packets are handled within read-side
// critical sections of RCU, and membarrier's global command is
// synchronize_rcu (kernel/sched/membarrier.c).
func (p *Plane) Barrier() error {
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0); errno != 0 {
		return fmt.Errorf("membarrier: %w", errno)
	}
	return nil
}
