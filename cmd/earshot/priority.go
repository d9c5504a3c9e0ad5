package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"

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
	const autogroup = "/proc/self/autogroup" // most kernels are without
	// Where the kernel shares CPU time among sessions first, nice values count
	// within one alone.
	switch sid, err := unix.Getsid(0); {
	case err != nil:
	case sid == os.Getpid():
		_ = os.WriteFile(autogroup, strconv.AppendInt(nil, agentNice, 10), 0)
	case grouped():
		logger.Info("the kernel shares CPU time among sessions, and the agent is in that of another program: when that is busy the agent may be late, and lose its lease; start it from its systemd unit, or with setsid")
	}
}

// grouped reports whether the kernel shares CPU time among sessions
// (sched_autogroup_enabled, see sched(7)).
func grouped() bool {
	enabled, err := os.ReadFile("/proc/sys/kernel/sched_autogroup_enabled")
	return err == nil && strings.TrimSpace(string(enabled)) == "1"
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
