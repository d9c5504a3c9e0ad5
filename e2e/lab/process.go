package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Command says how to start a process in a namespace.
type Command struct {
	Path   string    // the executable; empty: this one, playing Role
	Role   string    // see Program.Roles
	Args   []string  // without argv[0]
	Env    []string  // added to this process's own
	Stdin  io.Reader // nil: /dev/null
	Stdout io.Writer // nil: the log
	Stderr io.Writer // nil: the log
	// Unprivileged gives the process no power over the network: it is root, but
	// of a user namespace of its own.
	Unprivileged bool
	Log          string // file that takes the rest of the output, appended; empty: none
}

// Process is a running child in a namespace. It dies with the namespace.
type Process struct {
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{}
	err  error // of Wait; valid when done is closed
}

// Start starts a process in the namespace.
func (n *Namespace) Start(c Command) (*Process, error) {
	p := &Process{done: make(chan struct{})}
	if err := p.prepare(c); err != nil {
		return nil, fmt.Errorf("start %s in %s: %w", c.name(), n.Name, err)
	}
	if err := n.onThread(p.cmd.Start); err != nil {
		p.closeLog()
		return nil, fmt.Errorf("start %s in %s: %w", c.name(), n.Name, err)
	}
	if !n.enlist(p) {
		_ = p.cmd.Process.Kill() // closed in between
	}
	go func() {
		p.err = p.cmd.Wait()
		n.dismiss(p)
		p.closeLog()
		close(p.done)
	}()
	return p, nil
}

// name is what messages call the command.
func (c Command) name() string {
	if c.Path == "" {
		return c.Role
	}
	return c.Path
}

// prepare turns a Command into an exec.Cmd.
func (p *Process) prepare(c Command) error {
	path := c.Path
	if path == "" {
		path = "/proc/self/exe"
	}
	p.cmd = exec.Command(path, c.Args...)
	if c.Path == "" {
		p.cmd.Args[0] = rolePrefix + c.Role
	}
	p.cmd.Env = append(environment(), c.Env...)
	// A session of its own, as systemd gives a service: kernels share CPU time
	// among sessions before they heed priorities within one.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL, Setsid: true}
	if c.Unprivileged {
		self := []syscall.SysProcIDMap{{Size: 1}}
		p.cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWUSER
		p.cmd.SysProcAttr.UidMappings, p.cmd.SysProcAttr.GidMappings = self, self
	}
	// A grandchild that holds the pipes must not hold Wait.
	p.cmd.WaitDelay = time.Second
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	if c.Log == "" {
		return nil
	}
	f, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	p.log = f
	if c.Stdout == nil {
		p.cmd.Stdout = f
	}
	if c.Stderr == nil {
		p.cmd.Stderr = f
	}
	return nil
}

// environment is this process's own without the agent's variables: a lab must
// not depend on what its user has set.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "EARSHOT_") })
}

func (p *Process) closeLog() {
	if p.log != nil {
		p.log.Close()
	}
}

// Pid is the process's number in the lab's pid namespace.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Alive reports whether the process still runs.
func (p *Process) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Wait waits for the end and returns the exit status (128+n after signal n).
func (p *Process) Wait(ctx context.Context) (int, error) {
	select {
	case <-p.done:
		if errors.Is(p.err, exec.ErrWaitDelay) {
			return 0, p.err
		}
		return exitStatus(p.err), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("wait for process %d: %w", p.Pid(), ctx.Err())
	}
}

// Signal sends a signal. A process that has ended is no error.
func (p *Process) Signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal process %d: %w", p.Pid(), err)
	}
	return nil
}

// Stop asks the process to end (SIGTERM) and returns its exit status. After
// the limit it is killed, and that is an error.
func (p *Process) Stop(limit time.Duration) (int, error) {
	if err := p.Signal(unix.SIGTERM); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	status, err := p.Wait(ctx)
	if err != nil {
		return 0, errors.Join(fmt.Errorf("stop: %w", err), p.Kill())
	}
	return status, nil
}

// Kill ends the process by SIGKILL and waits until it is gone.
func (p *Process) Kill() error {
	if err := p.Signal(unix.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

// Result is what a finished command left.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Run runs a command in the namespace to its end.
func (n *Namespace) Run(ctx context.Context, c Command) (Result, error) {
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	p, err := n.Start(c)
	if err != nil {
		return Result{}, err
	}
	code, err := p.Wait(ctx)
	if err != nil {
		return Result{}, errors.Join(fmt.Errorf("run %s in %s: %w", c.name(), n.Name, err), p.Kill())
	}
	return Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: code}, nil
}
