package child

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// stageName is the program name by which Requested knows a stage.
const stageName = "earshot-child"

// stageFile is the descriptor on which a stage tells why it failed.
const stageFile = 3

// prepare makes the command ready to start.
func (r *Runner) prepare(c Command, out *output) (*process, error) {
	// Looked for here, where a disk that hangs holds up this goroutine only.
	path, err := exec.LookPath(c.Args[0])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStart, plain(err))
	}
	p := &process{cmd: &exec.Cmd{
		Path: path, Args: c.Args, Env: append(Environ(os.Environ()), c.Env...), Dir: "/",
		Stdout: out, Stderr: out, WaitDelay: pipeTime,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	}}
	if len(c.Stdin) > 0 {
		p.cmd.Stdin = bytes.NewReader(c.Stdin)
	}
	if r.Stage == "" {
		return p, nil
	}
	p.failed, p.theirs, err = os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStart, err)
	}
	p.cmd.Path, p.cmd.Args = r.Stage, append([]string{stageName, path}, c.Args...)
	p.cmd.ExtraFiles = []*os.File{p.theirs}
	return p, nil
}

// started gives up what only the new process needs.
func (p *process) started() {
	if p.theirs != nil {
		p.theirs.Close()
	}
}

func (p *process) close() {
	if p.failed != nil {
		p.failed.Close()
		p.theirs.Close()
	}
}

// becoming returns why the stage did not become the program, once it has ended.
func (p *process) becoming() error {
	if p.failed == nil {
		return nil
	}
	reason, err := io.ReadAll(io.LimitReader(p.failed, 1<<10))
	if err != nil || len(reason) == 0 {
		return nil
	}
	return errors.New(string(reason))
}

// Requested reports that this process is a stage: the command line is one that
// Runner made.
func Requested(args []string) bool { return len(args) > 2 && args[0] == stageName }

// Become turns this process, a stage, into the program it was started for. It
// returns the exit status of a failure only.
func Become(args []string) int {
	unix.CloseOnExec(stageFile)
	// The class belongs to the thread, and the calling one becomes the program.
	runtime.LockOSThread()
	err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}, 0)
	if err != nil {
		err = fmt.Errorf("give up the agent's priority: %w", err)
	} else {
		err = plain(syscall.Exec(args[1], args[2:], os.Environ()))
	}
	_, _ = io.WriteString(os.NewFile(stageFile, "stage"), err.Error())
	return 126 // as a shell says it
}

// plain takes the program's name out of an error: the caller adds it.
func plain(err error) error {
	var lookup *exec.Error
	if errors.As(err, &lookup) {
		return plain(lookup.Err)
	}
	return bare(err)
}

// Environ returns what a program sees of the agent's environment: neither what
// configures the agent nor what lets a process speak for it to systemd.
func Environ(all []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return strings.HasPrefix(name, "EARSHOT_") || strings.HasPrefix(name, "LISTEN_") ||
			name == "NOTIFY_SOCKET" || name == "WATCHDOG_USEC" || name == "WATCHDOG_PID"
	})
}
