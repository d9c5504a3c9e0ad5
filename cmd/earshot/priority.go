package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// agentRealtime is the agent's priority in SCHED_RR, the lowest there is:
	// it needs little CPU time, but at once, or its lease runs out while the
	// machine is busy with what it serves. Any realtime priority comes before
	// all ordinary processes, however many there are.
	agentRealtime = 1
	// agentNice is the next best, where a realtime class is not allowed.
	agentNice = -20
)

// raisePriority gives all threads of the process, and so those that they will
// start, the agent's priority. Where that is not allowed the agent runs
// without, and a busy machine may cost it its lease.
func raisePriority(logger *slog.Logger) {
	realtime := eachThread(func(id int) error {
		return unix.SchedSetAttr(id, &unix.SchedAttr{Policy: unix.SCHED_RR, Priority: agentRealtime}, 0)
	})
	if realtime == nil {
		return
	}
	nice := eachThread(func(id int) error { return unix.Setpriority(unix.PRIO_PROCESS, id, agentNice) })
	if nice == nil {
		logger.Info("no realtime priority: a very busy machine may delay the agent", "error", realtime, "nice", agentNice)
		return
	}
	logger.Warn("cannot raise the agent's priority: a busy machine may delay it, and cost it its lease", "error", errors.Join(realtime, nice))
}

// eachThread calls f for each thread of this process until one call fails.
func eachThread(f func(id int) error) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("list threads: %w", err)
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		// A thread may end meanwhile; a new one has its maker's priority.
		if err := f(id); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("set priority of thread %d: %w", id, err)
		}
	}
	return nil
}
