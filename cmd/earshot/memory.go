package main

import (
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"
)

// keepMemory has all memory of the process that is in use stay in RAM. To read
// a page back from a disk takes longer than a lease, on a machine that is short
// of memory, and short of it is when a node must not lose its share as well.
// Where that is not allowed the agent runs without.
func keepMemory(logger *slog.Logger) {
	if err := lockMemory(); err != nil {
		logger.Warn("cannot keep the agent's memory in RAM: a machine short of memory may delay it, and cost it its lease; LimitMEMLOCK=infinity in its systemd unit allows it", "error", err)
	}
}

// lockMemory locks what the process has and will have. Where a limit holds it
// would be reached later, and end the process: without a limit, or with
// CAP_IPC_LOCK, which alone gets beyond a limit of zero.
func lockMemory() error {
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &was); err != nil {
		return fmt.Errorf("read limit of locked memory: %w", err)
	}
	if was.Max != unix.RLIM_INFINITY {
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Max: was.Max}); err != nil {
			return fmt.Errorf("set limit of locked memory: %w", err)
		}
		defer func() { _ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &was) }() // to what it was a moment ago
	} else if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: was.Max, Max: was.Max}); err != nil {
		return fmt.Errorf("raise limit of locked memory: %w", err)
	}
	// On fault: Go reserves far more than it uses.
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("lock memory: %w", err)
	}
	return nil
}
