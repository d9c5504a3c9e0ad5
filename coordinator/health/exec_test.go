package health

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"earshot/coordinator/child"
)

// The test binary becomes the programs that it starts, as the agent does.
func TestMain(m *testing.M) {
	if child.Requested(os.Args) {
		os.Exit(child.Become(os.Args))
	}
	os.Exit(m.Run())
}

var runner = &child.Runner{Stage: child.Self}

// shell is a check by a script.
func shell(script string, args ...string) Spec {
	return Spec{Kind: Exec, Command: append([]string{"/bin/sh", "-c", script, "sh"}, args...)}
}

func TestExec(t *testing.T) {
	accepted := shell("exit 3")
	accepted.Status = "0,3"
	found, missed := shell("echo fine; echo foobar3000 >&2"), shell("echo fine")
	found.Expect, missed.Expect = "foobar3000", "foobar3000"
	for _, tt := range []struct {
		spec Spec
		want string
	}{
		{Spec{Kind: Exec, Target: "/bin/sh -c 'exit 0'"}, ""},
		{shell("exit 0"), ""},
		{shell("echo no disk; exit 3"), "exit status 3, not 0: no disk"},
		{accepted, ""},
		{found, ""},
		{missed, "does not contain"},
		{shell("kill -9 $$"), "killed by signal SIGKILL"},
		{Spec{Kind: Exec, Command: []string{"/no/such/program"}}, "no such file"},
		{Spec{Kind: Exec, Command: []string{"/etc/passwd"}}, "permission denied"},
		{short(shell("exec sleep 60")), "did not end in time"},
		{short(shell("sleep 60")), "did not end in time"},
		{short(shell("trap '' TERM INT HUP; while :; do sleep 1; done")), "did not end in time"},
		{short(shell("exec yes")), "did not end in time"},
		{shell("head -c 1000000 /dev/zero"), ""},
	} {
		judges(t, tt.spec, tt.want)
	}
}

// forks is a program that leaves processes behind in every way there is: in
// its group, in a session of their own, and orphaned.
const forks = `sleep 61 & echo $! >>"$1"
setsid sleep 62 & echo $! >>"$1"
(setsid sh -c 'echo $$ >>"$1"; sleep 63 & echo $! >>"$1"; wait' sh "$1" </dev/null >/dev/null 2>&1 &)
while [ "$(wc -l <"$1")" -lt 4 ]; do sleep 0.01; done
`

// Nothing is left over, whether the program ends by itself or is ended.
func TestExecLeavesNoProcess(t *testing.T) {
	for name, end := range map[string]string{"well": "exit 0", "failed": "exit 1", "hangs": "sleep 64"} {
		t.Run(name, func(t *testing.T) {
			list := filepath.Join(t.TempDir(), "pids")
			if err := os.WriteFile(list, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			spec := shell(forks+end, list)
			spec.Timeout = 10 * time.Second
			if name == "hangs" {
				spec.Timeout = time.Second
			}
			if got := once(t, spec); (got == "") != (name == "well") {
				t.Errorf("the verdict is %q", got)
			}
			pids := readPids(t, list)
			if len(pids) != 4 {
				t.Fatalf("the program has started %d processes", len(pids))
			}
			for _, pid := range pids {
				eventually(t, fmt.Sprintf("process %d is gone", pid), func() bool { return gone(pid) })
			}
		})
	}
}

func readPids(t *testing.T, file string) []int {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, word := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// gone reports that a process has ended. Whose child it has become may not
// have reaped it yet.
func gone(pid int) bool {
	_, err := processName(pid)
	return err != nil
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-limit:
			t.Fatalf("not within 20 s: %s", what)
		case <-tick.C:
		}
	}
}

// A program started by the agent, whose threads are in a realtime class, is in
// none.
func TestExecRunsInTheOrdinaryClass(t *testing.T) {
	raise := func(policy uint32, priority uint32, nice int32) error {
		return eachThread(func(id int) error {
			return unix.SchedSetAttr(id, &unix.SchedAttr{Policy: policy, Priority: priority, Nice: nice}, 0)
		})
	}
	t.Cleanup(func() { _ = raise(unix.SCHED_NORMAL, 0, 0) })
	for name, err := range map[string]func() error{
		"realtime": func() error { return raise(unix.SCHED_RR, 1, 0) },
		"nice":     func() error { return raise(unix.SCHED_NORMAL, 0, -20) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := err(); err != nil {
				t.Skipf("not allowed to: %v", err)
			}
			// Of what follows the name, field 17 is the nice value, 39 the class.
			spec := shell(`read -r line </proc/self/stat; set -- ${line##*) }; echo "class ${39} nice ${17}"`)
			spec.Expect = "class 0 nice 0"
			spec.Timeout = 10 * time.Second
			judges(t, spec, "")
		})
	}
}

func eachThread(f func(id int) error) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			return err
		}
		if err := f(id); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// An agent that ends while a program runs ends it.
func TestExecEndsWithTheAgent(t *testing.T) {
	list := filepath.Join(t.TempDir(), "pids")
	spec := shell(`echo $$ >>"$1"; exec sleep 60`, list)
	spec.Timeout = time.Minute
	ctx, cancel := context.WithCancel(context.Background())
	a := attempts{check: makeCheck(t, spec)}
	done := make(chan error)
	go func() { done <- a.once(ctx) }()
	eventually(t, "the program runs", func() bool {
		text, err := os.ReadFile(list)
		return err == nil && strings.HasSuffix(string(text), "\n")
	})
	cancel()
	if err := <-done; err == nil {
		t.Error("it is well")
	}
	pid := readPids(t, list)[0]
	eventually(t, "the program is gone", func() bool { return gone(pid) })
}

// Checks by the hundred leave neither threads nor files nor memory behind.
func TestExecLeavesNothingInTheAgent(t *testing.T) {
	spec := shell("exit 0")
	run := func(n int) (files, goroutines int) {
		for range n {
			judges(t, spec, "")
		}
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries), runtime.NumGoroutine()
	}
	files, goroutines := run(3)
	files2, goroutines2 := run(30)
	if files2 > files+2 || goroutines2 > goroutines+2 {
		t.Errorf("files %d, then %d; goroutines %d, then %d", files, files2, goroutines, goroutines2)
	}
}
