package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMemoryOfTheAgentStaysInRAM(t *testing.T) {
	t.Cleanup(func() { _ = unix.Munlockall() })
	var log bytes.Buffer
	keepMemory(slog.New(slog.NewTextHandler(&log, nil)))
	if log.Len() > 0 {
		t.Skipf("not allowed to: %s", &log)
	}
	before := locked(t)
	later, err := unix.Mmap(-1, 0, 4<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Munmap(later); err != nil {
			t.Error(err)
		}
	}()
	if more := locked(t) - before; before == 0 || more < len(later)>>10 {
		t.Errorf("%d KiB locked, and %d of %d that came later", before, more, len(later)>>10)
	}
}

// locked is how much memory of this process is locked, in KiB.
func locked(t *testing.T) (kib int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmLck:")
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatalf("no VmLck in %s", status)
	}
	return kib
}
