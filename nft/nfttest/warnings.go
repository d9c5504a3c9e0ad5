package nfttest

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// KernelWarnings returns what tells of the kernel's warnings since: by the
// taint that they leave, and by its log where that may be read.
func KernelWarnings(t testing.TB) func() string {
	t.Helper()
	tainted := func() string {
		text, err := os.ReadFile("/proc/sys/kernel/tainted")
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	before := tainted()
	log, err := os.OpenFile("/dev/kmsg", os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err == nil {
		t.Cleanup(func() { log.Close() })
		_, err = log.Seek(0, 2)
	}
	if err != nil {
		t.Logf("kernel log not looked at: %v", err)
		log = nil
	}
	return func() string {
		if tainted() != before {
			return "tainted"
		}
		if log == nil {
			return ""
		}
		return complaint(log)
	}
}

// complaint reads what is new in the kernel's log.
func complaint(log *os.File) string {
	buf := make([]byte, 8192)
	for {
		if err := log.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			return err.Error()
		}
		n, err := log.Read(buf)
		switch {
		case errors.Is(err, unix.EPIPE):
			continue // lines were overwritten: go on with the next
		case err != nil:
			return ""
		}
		for _, word := range []string{"WARNING", "BUG", "Oops", "Call Trace", "general protection"} {
			if strings.Contains(string(buf[:n]), word) {
				return string(buf[:n])
			}
		}
	}
}
