package main

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// agentNice is the agent's nice value: it needs little CPU time, but at once,
// or its lease runs out while the machine is busy with what it serves.
const agentNice = -20

// raisePriority gives all threads of the process, and so those that they will
// start, the agent's priority. Where that is not allowed the agent runs
// without, and a busy machine may cost it its lease.
func raisePriority(logger *slog.Logger) {
	if err := setPriority(agentNice); err != nil {
		logger.Info("cannot raise the agent's priority: a busy machine may delay it", "error", err)
	}
}

func setPriority(nice int) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("list threads: %w", err)
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		// A thread may end meanwhile; a new one has its maker's value.
		if err := unix.Setpriority(unix.PRIO_PROCESS, id, nice); err != nil && err != unix.ESRCH {
			return fmt.Errorf("set nice %d: %w", nice, err)
		}
	}
	return nil
}
