package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// agentNice is the agent's nice value: it needs little CPU time, but at once,
// or its lease runs out while the machine is busy with what it serves.
//
// No realtime class, which would come before all other processes whatever
// their groups: Go's runtime has loops that yield until another thread of the
// process gets on, as when a sweep of the garbage collector ends. In a realtime
// class such a loop keeps the processor from just that thread, up to the 100 ms
// of SCHED_RR's turn (seen with three agents on two processors, once a minute).
const agentNice = -20

// raisePriority gives all threads of the process, and so those that they will
// start, the agent's priority. Where that is not allowed the agent runs
// without, and a busy machine may cost it its lease.
func raisePriority(logger *slog.Logger) {
	if err := eachThread(func(id int) error { return unix.Setpriority(unix.PRIO_PROCESS, id, agentNice) }); err != nil {
		logger.Warn("cannot raise the agent's priority: a busy machine may delay it, and cost it its lease", "error", err)
		return
	}
	// Where the kernel shares CPU time among sessions first, nice values count
	// within one alone.
	if sid, err := unix.Getsid(0); err == nil && sid == os.Getpid() {
		_ = os.WriteFile("/proc/self/autogroup", strconv.AppendInt(nil, agentNice, 10), 0) // most kernels are without
	}
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
