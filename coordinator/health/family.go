package health

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// family finds the processes that a program leaves behind though it has no
// more to do with them, as those that have made themselves daemons: all
// inherit a mark in their environment. A check leaves nothing running.
type family struct {
	mark string
	// after is the number of a process that is older than the program.
	after int
}

func newFamily() family {
	f := family{mark: "EARSHOT_CHECK=" + rand.Text()}
	// "0.20 0.18 0.12 1/80 11206": the last is the newest process.
	if load, err := readStart("/proc/loadavg"); err == nil {
		load = bytes.TrimSpace(load)
		f.after, _ = strconv.Atoi(string(load[bytes.LastIndexByte(load, ' ')+1:]))
	}
	return f
}

// mostRounds bounds the hunt for processes that start others meanwhile.
const mostRounds = 20

// kill ends what bears the mark. Where the numbers of processes have begun
// anew since, it may miss some.
func (f family) kill() {
	for range mostRounds {
		entries, err := os.ReadDir("/proc")
		if err != nil {
			return
		}
		found := false
		for _, e := range entries {
			pid, err := strconv.Atoi(e.Name())
			if err == nil && pid > f.after && f.has(pid) {
				found = unix.Kill(pid, unix.SIGKILL) == nil || found
			}
		}
		if !found {
			return
		}
	}
}

// has reports whether the process bears the mark.
func (f family) has(pid int) bool {
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && bytes.Contains(environ, []byte(f.mark))
}
