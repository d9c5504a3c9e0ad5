package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	rolePrefix = "earshot-lab:" // argv[0] of a process that plays a role
	inside     = "inside"       // the role of the program inside its namespaces

	// exitEntry is the exit status when the namespaces cannot be made.
	exitEntry = 1
)

// Role is what a child process of the lab does instead of the whole program:
// the same executable is started again under another argv[0].
type Role func(args []string) int

// Program is an executable (a test binary, a demo) that uses the lab.
type Program struct {
	// Before runs outside, with the user's own network and file system: the
	// place to build things. May be nil.
	Before func() error
	// Run is the program itself, inside the namespaces.
	Run func() int
	// Roles are the other things that this executable can be started as.
	Roles map[string]Role
}

// Main runs the program and returns its exit status. Call it first of all.
func (p Program) Main() int {
	role, isRole := strings.CutPrefix(os.Args[0], rolePrefix)
	switch {
	case !isRole:
		return p.enter()
	case role == inside:
		if err := furnish(); err != nil {
			return complain("set up namespaces", err)
		}
		return p.Run()
	case p.Roles[role] == nil:
		return complain("start", fmt.Errorf("no role %q", role))
	}
	return p.Roles[role](os.Args[1:])
}

// enter starts this executable again inside new namespaces, passes signals on
// to it and returns its exit status.
func (p Program) enter() int {
	if p.Before != nil {
		if err := p.Before(); err != nil {
			return complain("prepare", err)
		}
	}
	// Pdeathsig is sent when this thread ends: it must be one that stays.
	runtime.LockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = rolePrefix + inside
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = namespaceAttr()

	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return complain("make namespaces", fmt.Errorf("%w%s", err, entryHint(err)))
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // fails only when it has ended
		}
	}()
	return exitStatus(cmd.Wait())
}

// namespaceAttr asks for new namespaces, with a user namespace where this user
// is root unless we are root already. The process is put into a group of its
// own, so that a ^C reaches it once, by us.
func namespaceAttr() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  unix.SIGKILL,
		Setpgid:    true,
	}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return attr
}

// furnish makes the new namespaces fit to live in: own mounts, a /proc of the
// own processes, a /sys of the own network, an empty /run for temporary files.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// A container may forbid these two. The lab itself goes by /proc/self and
	// /proc/thread-self, which work in the old /proc as well.
	_ = unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	_ = unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount tmpfs on /run: %w", err)
	}
	tmp := filepath.Join("/run", "tmp")
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return err
	}
	return os.Setenv("TMPDIR", tmp)
}

// entryHint says what to do when namespaces are refused.
func entryHint(err error) string {
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EACCES) {
		return ""
	}
	return "\nhint: run as root, or allow user namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)"
}

// exitStatus turns the result of Wait into a shell's exit status.
func exitStatus(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &exit):
		return complain("wait", err)
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return exit.ExitCode()
}

// complain writes an error where a person sees it.
func complain(doing string, err error) int {
	fmt.Fprintf(os.Stderr, "lab: %s: %v\n", doing, err)
	return exitEntry
}
