// Package child runs other programs for the agent: health checks and hooks.
//
// The agent is a process of high priority that must never wait for a disk, so a
// program is not started directly. The agent starts itself again, from memory
// that it has; that second process gives up the priority, and then becomes
// the program (Become).
//
// Be aware:
//   - A program ends with its process group, in time or not: what it left in
//     the background is killed. What is to outlive it needs a session of its
//     own (setsid), or systemd-run.
//   - SIGKILL does nothing to a process that hangs in the kernel. Such a one is
//     left behind (ErrStuck), and too many of them let no other start (ErrBusy).
package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The reasons for which a program gave no result. Each says so of the program,
// not of its verdict: an exit status is no error.
var (
	// ErrStart: the program was not started, or could not be.
	ErrStart = errors.New("cannot start")
	// ErrTimeout: it ran for longer than it may, and was killed.
	ErrTimeout = errors.New("timed out")
	// ErrStuck: it was killed, and hangs in the kernel.
	ErrStuck = errors.New("was killed and does not end")
	// ErrBusy: too many programs are stuck to start another.
	ErrBusy = errors.New("too many programs hang")
)

const (
	// killTime is how long a killed process may take to be gone.
	killTime = time.Second
	// pipeTime is how long somebody outside the group may hold the output.
	pipeTime = 100 * time.Millisecond
	// maxStuck bounds the processes that hang in the kernel: each has one of
	// the agent's threads.
	maxStuck = 16
)

// Self is the Stage of a program whose main function asks Requested first: the
// running program, even if its file was replaced.
const Self = "/proc/self/exe"

// Runner starts programs. It must not be copied; several may use it at once.
type Runner struct {
	// Stage is the program that becomes the one to run: Self. Empty starts
	// programs directly, with the scheduling class of the caller.
	Stage string

	stuck atomic.Int32
}

// Command is a program to run.
type Command struct {
	// Args are the program and its arguments. A name without a slash is looked
	// for in PATH.
	Args []string
	// Env has "NAME=value", beside what Environ gives.
	Env []string
	// Stdin is what the program can read; it need not.
	Stdin []byte
	// Timeout is how long it may run, zero: as long as the context lets it.
	Timeout time.Duration
	// MaxOutput is how many bytes of its output are kept, the first ones.
	MaxOutput int
}

// Result is how a program ended.
type Result struct {
	// Exit is its exit status, -1 if a signal ended it.
	Exit int
	// Signal ended it, or zero.
	Signal syscall.Signal
	// Output has stdout and stderr, in the order of writing.
	Output []byte
	// Cut: there was more output than is kept.
	Cut bool
}

// OK reports that the program ended with status 0.
func (r Result) OK() bool { return r.Exit == 0 }

// String says how it ended, for logs.
func (r Result) String() string {
	if r.Signal != 0 {
		return "killed by signal " + unix.SignalName(r.Signal)
	}
	return fmt.Sprintf("exit status %d", r.Exit)
}

// Run runs the program until it ends, its time is over or the context ends,
// and kills what is left of its process group. It returns within a second of
// the end of the program's time. The error wraps one of this package's, or the
// context's cause; output that came before is in the result all the same.
func (r *Runner) Run(ctx context.Context, c Command) (Result, error) {
	if len(c.Args) == 0 || c.Args[0] == "" {
		return Result{Exit: -1}, fmt.Errorf("%w: no program is named", ErrStart)
	}
	name := c.Args[0]
	if r.stuck.Load() >= maxStuck {
		return Result{Exit: -1}, fmt.Errorf("%w: %s is not started", ErrBusy, name)
	}
	parent := ctx
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Timeout)
		defer cancel()
	}
	out := newOutput(c.MaxOutput)
	ended := make(chan outcome, 1)
	go func() { ended <- r.run(ctx, c, out) }()
	var o outcome
	select {
	case o = <-ended:
	case <-ctx.Done():
		select {
		case o = <-ended:
		case <-time.After(killTime):
			r.stuck.Add(1)
			go func() {
				<-ended
				r.stuck.Add(-1)
			}()
			o = outcome{exit: -1, err: ErrStuck}
		}
	}
	result := Result{Exit: o.exit, Signal: o.signal}
	result.Output, result.Cut = out.kept()
	switch {
	case o.err != nil:
		return result, fmt.Errorf("%s: %w", name, o.err)
	case o.killed && parent.Err() != nil:
		return result, fmt.Errorf("%s: %w", name, context.Cause(parent))
	case o.killed:
		return result, fmt.Errorf("%s: %w after %s", name, ErrTimeout, c.Timeout)
	}
	return result, nil
}

// outcome is what became of a process.
type outcome struct {
	exit   int
	signal syscall.Signal
	killed bool // by us, before it ended
	err    error
}

// run starts the process and waits for it. The kernel kills the process when
// the thread that started it ends, so this one stays until then.
func (r *Runner) run(ctx context.Context, c Command, out *output) outcome {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := r.prepare(c, out)
	if err != nil {
		return outcome{exit: -1, err: err}
	}
	defer p.close()
	if err := ctx.Err(); err != nil {
		return outcome{exit: -1, err: fmt.Errorf("%w: %w", ErrStart, context.Cause(ctx))}
	}
	if err := p.cmd.Start(); err != nil {
		return outcome{exit: -1, err: fmt.Errorf("%w: %w", ErrStart, bare(err))}
	}
	p.started()
	killed := p.await(ctx)
	// The pipes end with the group; somebody who left it may hold them.
	waited := p.cmd.Wait()
	if err := p.becoming(); err != nil {
		return outcome{exit: -1, err: fmt.Errorf("%w: %w", ErrStart, err)}
	}
	if p.cmd.ProcessState == nil {
		return outcome{exit: -1, err: waited}
	}
	o := outcome{exit: p.cmd.ProcessState.ExitCode(), killed: killed}
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		o.signal = status.Signal()
	}
	return o
}

// bare takes the name of our own helper out of an error.
func bare(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// process is a program on its way.
type process struct {
	cmd *exec.Cmd
	// failed is where the stage says why it could not become the program.
	failed, theirs *os.File
}

// await waits for the end of the process without taking its number away, so
// that the group can be killed by it, and reports whether it had to be ended.
func (p *process) await(ctx context.Context) (killed bool) {
	pid := p.cmd.Process.Pid
	var watching sync.WaitGroup
	done := make(chan struct{})
	watching.Go(func() {
		select {
		case <-ctx.Done():
			killed = true
			_ = unix.Kill(-pid, unix.SIGKILL)
		case <-done:
		}
	})
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	close(done)
	watching.Wait()
	_ = unix.Kill(-pid, unix.SIGKILL) // what it left behind
	return killed
}
