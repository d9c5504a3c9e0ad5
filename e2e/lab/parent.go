package lab

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// EndWithParent has this process receive SIGTERM when its parent ends, as
// `go run` or make do without passing a signal on. Call it in Program.Before.
func EndWithParent() error {
	// The setting is this thread's: it must be one that stays.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0); err != nil {
		return fmt.Errorf("end with parent: %w", err)
	}
	return nil
}

// RoleName is the argv[0] that makes an executable play one of its
// Program.Roles, for who starts it outside of a Namespace.
func RoleName(role string) string { return rolePrefix + role }
