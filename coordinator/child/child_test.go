package child

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary is its own stage, as the agent is.
func TestMain(m *testing.M) {
	if Requested(os.Args) {
		os.Exit(Become(os.Args))
	}
	os.Exit(m.Run())
}

// patience is for a machine that is busy with other tests.
const patience = 30 * time.Second

// runners are the two ways to start a program.
func runners() map[string]*Runner {
	return map[string]*Runner{"staged": {Stage: Self}, "direct": {}}
}

func TestResults(t *testing.T) {
	tests := []struct {
		name    string
		command Command
		want    Result
		text    string
	}{
		{"status 0", Command{Args: []string{"true"}}, Result{}, "exit status 0"},
		{"status", Command{Args: []string{"sh", "-c", "exit 3"}}, Result{Exit: 3}, "exit status 3"},
		{"signal", Command{Args: []string{"sh", "-c", "kill -TERM $$"}}, Result{Exit: -1, Signal: syscall.SIGTERM}, "killed by signal SIGTERM"},
		{"both outputs", Command{Args: []string{"sh", "-c", "echo one; echo two >&2; echo three"}, MaxOutput: 100},
			Result{Output: []byte("one\ntwo\nthree\n")}, "exit status 0"},
		{"output kept to its bound", Command{Args: []string{"sh", "-c", "echo one; echo two"}, MaxOutput: 5},
			Result{Output: []byte("one\nt"), Cut: true}, "exit status 0"},
		{"input", Command{Args: []string{"cat"}, Stdin: []byte("hello"), MaxOutput: 100}, Result{Output: []byte("hello")}, "exit status 0"},
		{"input that nobody reads", Command{Args: []string{"true"}, Stdin: bytes.Repeat([]byte("x"), 1<<20)}, Result{}, "exit status 0"},
		{"no input", Command{Args: []string{"cat"}, MaxOutput: 100}, Result{}, "exit status 0"},
		{"arguments are no shell's", Command{Args: []string{"printf", "%s", "$HOME; *"}, MaxOutput: 100}, Result{Output: []byte("$HOME; *")}, "exit status 0"},
		{"directory", Command{Args: []string{"pwd"}, MaxOutput: 100}, Result{Output: []byte("/\n")}, "exit status 0"},
		{"own facts", Command{Args: []string{"sh", "-c", "echo $EARSHOT_EVENT-$EARSHOT_LEASE-$NOTIFY_SOCKET"}, MaxOutput: 100, Env: []string{"EARSHOT_EVENT=gained"}},
			Result{Output: []byte("gained--\n")}, "exit status 0"},
	}
	t.Setenv("EARSHOT_LEASE", "1s")
	t.Setenv("NOTIFY_SOCKET", "/run/x")
	for way, r := range runners() {
		for _, tt := range tests {
			t.Run(way+"/"+tt.name, func(t *testing.T) {
				tt.command.Timeout = patience
				got, err := r.Run(t.Context(), tt.command)
				if err != nil {
					t.Fatal(err)
				}
				if got.Exit != tt.want.Exit || got.Signal != tt.want.Signal || got.Cut != tt.want.Cut || !bytes.Equal(got.Output, tt.want.Output) {
					t.Errorf("got %+v (%q), want %+v", got, got.Output, tt.want)
				}
				if got.String() != tt.text {
					t.Errorf("says %q, want %q", got, tt.text)
				}
			})
		}
	}
}

func TestProgramsThatCannotStart(t *testing.T) {
	plainFile := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plainFile, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	for way, r := range runners() {
		for _, tt := range []struct {
			args []string
			want string
		}{
			{nil, "no program is named"},
			{[]string{"no-such-program-here"}, "no-such-program-here: cannot start: executable file not found in $PATH"},
			{[]string{"/no/such/program"}, "/no/such/program: cannot start: no such file or directory"},
			{[]string{"/etc"}, "/etc: cannot start: is a directory"},
			{[]string{plainFile}, plainFile + ": cannot start: exec format error"},
		} {
			t.Run(fmt.Sprint(way, tt.args), func(t *testing.T) {
				_, err := r.Run(t.Context(), Command{Args: tt.args, Timeout: patience})
				if !errors.Is(err, ErrStart) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v\nwant %s", err, tt.want)
				}
			})
		}
	}
}

// process reads the number that a program wrote to a file.
func pidIn(t *testing.T, file string) int {
	t.Helper()
	var pid int
	eventually(t, file+" names a process", func() bool {
		data, _ := os.ReadFile(file)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(data)))
		return pid > 0
	})
	return pid
}

func eventually(t *testing.T, what string, met func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !met() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", patience, what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// gone reports that the process has ended, reaped or not.
func gone(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, state, _ := bytes.Cut(data, []byte(") "))
	return len(state) > 0 && state[0] == 'Z'
}

func TestProgramOutOfTimeIsKilledWithItsChildren(t *testing.T) {
	for way, r := range runners() {
		t.Run(way, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pid")
			_, err := r.Run(t.Context(), Command{
				Args:    []string{"sh", "-c", `sleep 1000 & echo $! > "$1"; wait`, "sh", file},
				Timeout: time.Second,
			})
			if !errors.Is(err, ErrTimeout) || !strings.Contains(err.Error(), "sh: timed out after 1s") {
				t.Fatalf("got %v", err)
			}
			child := pidIn(t, file)
			eventually(t, "the child's child is gone", func() bool { return gone(child) })
		})
	}
}

func TestNothingIsLeftInTheBackground(t *testing.T) {
	for way, r := range runners() {
		t.Run(way, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pid")
			got, err := r.Run(t.Context(), Command{
				Args:    []string{"sh", "-c", `sleep 1000 & echo $! > "$1"; echo done`, "sh", file},
				Timeout: patience, MaxOutput: 100,
			})
			if err != nil || string(got.Output) != "done\n" {
				t.Fatalf("got %q, %v", got.Output, err)
			}
			child := pidIn(t, file)
			eventually(t, "what it left is gone", func() bool { return gone(child) })
		})
	}
}

// A program that makes itself a daemon may live on, and holds nobody up though
// it has the output.
func TestDaemonIsNotWaitedFor(t *testing.T) {
	r := &Runner{Stage: Self}
	file := filepath.Join(t.TempDir(), "pid")
	_, err := r.Run(t.Context(), Command{
		Args:    []string{"sh", "-c", `setsid sh -c 'echo $$ > "$1"; exec sleep 1000' sh "$1" & while ! [ -s "$1" ]; do :; done`, "sh", file},
		Timeout: patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	daemon := pidIn(t, file)
	defer func() { _ = unix.Kill(daemon, unix.SIGKILL) }()
	if gone(daemon) {
		t.Error("the daemon was killed")
	}
}

func TestEndlessOutputEndsInTimeAndIsBounded(t *testing.T) {
	r := &Runner{Stage: Self}
	got, err := r.Run(t.Context(), Command{Args: []string{"yes"}, Timeout: time.Second, MaxOutput: 1000})
	if !errors.Is(err, ErrTimeout) || len(got.Output) != 1000 || !got.Cut {
		t.Errorf("got %d bytes, cut %v, error %v", len(got.Output), got.Cut, err)
	}
}

func TestCancelledProgramIsKilled(t *testing.T) {
	r := &Runner{Stage: Self}
	file := filepath.Join(t.TempDir(), "pid")
	why := errors.New("the agent stops")
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := r.Run(ctx, Command{Args: []string{"sh", "-c", `echo $$ > "$1"; exec sleep 1000`, "sh", file}})
		done <- err
	}()
	pid := pidIn(t, file)
	cancel(why)
	if err := <-done; !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	eventually(t, "it is gone", func() bool { return gone(pid) })
}

func TestTooManyStuckProgramsLetNoOtherStart(t *testing.T) {
	r := &Runner{Stage: Self}
	r.stuck.Store(maxStuck)
	if _, err := r.Run(t.Context(), Command{Args: []string{"true"}}); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v", err)
	}
	r.stuck.Store(maxStuck - 1)
	if _, err := r.Run(t.Context(), Command{Args: []string{"true"}}); err != nil {
		t.Errorf("got %v", err)
	}
}

// schedule sets the class of every thread of this process.
func schedule(t *testing.T, attr unix.SchedAttr) error {
	t.Helper()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		id, _ := strconv.Atoi(thread.Name())
		if err := unix.SchedSetAttr(id, &attr, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// Fields of /proc/PID/stat.
const (
	statNice   = 19
	statPolicy = 41
)

func TestProgramHasNoneOfTheAgentsPriority(t *testing.T) {
	for name, attr := range map[string]unix.SchedAttr{
		"realtime": {Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1},
		"nice":     {Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Nice: -20},
	} {
		t.Run(name, func(t *testing.T) {
			if err := schedule(t, attr); err != nil {
				t.Skipf("LOUD: this needs CAP_SYS_NICE: %v", err)
			}
			defer func() {
				if err := schedule(t, unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}); err != nil {
					t.Error(err)
				}
			}()
			r := &Runner{Stage: Self}
			// A grandchild, too: it is started after the class was left.
			got, err := r.Run(t.Context(), Command{Args: []string{"sh", "-c", "cat /proc/$$/stat; cat /proc/self/stat"}, Timeout: patience, MaxOutput: 4096})
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSpace(string(got.Output)), "\n")
			if len(lines) != 2 {
				t.Fatalf("got %q", got.Output)
			}
			for _, line := range lines {
				fields := strings.Fields(line)
				if fields[statPolicy-1] != "0" || fields[statNice-1] != "0" {
					t.Errorf("policy %s, nice %s: %s", fields[statPolicy-1], fields[statNice-1], line)
				}
			}
		})
	}
}

// A stage is told by its program name alone, so that no argument of a user's
// makes one.
func TestOrdinaryCommandLinesAreNoStages(t *testing.T) {
	for _, args := range [][]string{{"earshot"}, {"earshot", stageName, "x"}, {stageName}, {stageName, "x"}} {
		if Requested(args) {
			t.Errorf("%q is taken for a stage", args)
		}
	}
}

// The agent's death is the program's: it would be nobody's otherwise.
func TestProgramDiesWithTheAgent(t *testing.T) {
	if os.Getenv("CHILD_TEST_AGENT") != "" {
		_, _ = (&Runner{Stage: Self}).Run(context.Background(), Command{
			Args: []string{"sh", "-c", `echo $$ > "$1"; exec sleep 1000`, "sh", os.Getenv("CHILD_TEST_AGENT")},
		})
		return
	}
	file := filepath.Join(t.TempDir(), "pid")
	agent := exec.Command(Self, "-test.run", t.Name())
	agent.Env = append(os.Environ(), "CHILD_TEST_AGENT="+file)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	pid := pidIn(t, file)
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	eventually(t, "the program is gone", func() bool { return gone(pid) })
}
