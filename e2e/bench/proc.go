package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
)

// usage is what a process takes.
type usage struct {
	at      time.Time
	cpu     time.Duration // user and system, of all threads
	threads int
	rss     uint64 // bytes
	pss     uint64
}

// usageOf looks at a process.
func usageOf(pid int) (usage, error) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	u := usage{at: time.Now()}
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return u, err
	}
	if u.cpu, u.threads, err = parseStat(string(stat)); err != nil {
		return u, fmt.Errorf("%sstat: %w", dir, err)
	}
	rollup, err := os.ReadFile(dir + "smaps_rollup")
	if err != nil {
		return u, err
	}
	if u.rss, u.pss, err = parseRollup(string(rollup)); err != nil {
		return u, fmt.Errorf("%ssmaps_rollup: %w", dir, err)
	}
	return u, nil
}

// tick is the unit of times in /proc, USER_HZ, which is 100 wherever Go runs.
const tick = 10 * time.Millisecond

// parseStat reads utime, stime and num_threads, fields 14, 15 and 20. The
// program's name, in parentheses, may hold anything.
func parseStat(text string) (cpu time.Duration, threads int, err error) {
	const first = 3 // number of the first field behind the name
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(f) <= 20-first {
		return 0, 0, errors.New("too few fields")
	}
	user, err1 := strconv.ParseInt(f[14-first], 10, 64)
	system, err2 := strconv.ParseInt(f[15-first], 10, 64)
	threads, err3 := strconv.Atoi(f[20-first])
	return time.Duration(user+system) * tick, threads, errors.Join(err1, err2, err3)
}

// parseRollup reads the lines "Rss: 123 kB" and "Pss: 123 kB".
func parseRollup(text string) (rss, pss uint64, err error) {
	found := map[string]uint64{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 3 && (f[0] == "Rss:" || f[0] == "Pss:") {
			n, err := strconv.ParseUint(f[1], 10, 54)
			if err != nil {
				return 0, 0, err
			}
			found[f[0]] = n << 10
		}
	}
	if len(found) != 2 {
		return math.MaxUint64, math.MaxUint64, errors.New("no Rss and Pss")
	}
	return found["Rss:"], found["Pss:"], nil
}
