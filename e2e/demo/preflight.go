package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"earshot/e2e/lab"

	"golang.org/x/sys/unix"
)

// roleProbe is this program as the child that tries out namespaces.
const roleProbe = "probe"

// probeNamespaces plays that role. Where AppArmor restricts user namespaces,
// making them may work and using them not.
func probeNamespaces([]string) int {
	if unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") != nil {
		return exitFailed
	}
	return 0
}

// errNamespaces is what is wrong where the demo cannot run.
var errNamespaces = errors.New("this user may not make network namespaces here")

// checkNamespaces reports whether and why namespaces cannot be made, with the
// way out.
func checkNamespaces() error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args[0] = lab.RoleName(roleProbe)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID}
	root := os.Geteuid() == 0
	if !root {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	err := cmd.Run()
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w (%w)\n%s", errNamespaces, err, wayOut(root, readSysctl))
}

// wayOut says what helps, naming the settings that stand in the way.
func wayOut(root bool, sysctl func(name string) string) string {
	if root {
		return "hint: root lacks CAP_SYS_ADMIN here; in a container, start it with --privileged"
	}
	var changes []string
	for _, s := range []struct{ name, bad, good string }{
		{"user.max_user_namespaces", "0", "10000"},
		{"kernel.unprivileged_userns_clone", "0", "1"},
		{"kernel.apparmor_restrict_unprivileged_userns", "1", "0"},
	} {
		if sysctl(s.name) == s.bad {
			changes = append(changes, "  sudo sysctl "+s.name+"="+s.good)
		}
	}
	if len(changes) == 0 {
		return "hint: run it as root (sudo make demo); no sysctl forbids user namespaces, so a container\n" +
			"or a security module does (start a container with --privileged)"
	}
	return "hint: run it as root (sudo make demo), or allow user namespaces:\n" + strings.Join(changes, "\n")
}

// readSysctl reads a setting; one that this kernel does not have is empty.
func readSysctl(name string) string {
	text, _ := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	return strings.TrimSpace(string(text))
}
