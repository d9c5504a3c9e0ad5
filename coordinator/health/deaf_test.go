package health

import (
	"syscall"
	"testing"
)

// shrink makes a listener's queue as short as can be.
func shrink(t *testing.T, raw syscall.RawConn) {
	t.Helper()
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = syscall.Listen(int(fd), 0) }); err != nil {
		t.Fatal(err)
	}
	if failed != nil {
		t.Fatal(failed)
	}
}
