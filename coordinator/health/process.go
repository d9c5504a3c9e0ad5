package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
)

// errNoProcess says that a process is not there, or has ended and waits for
// its parent.
var errNoProcess = errors.New("does not run")

// pidFileProbe asks whether the process runs whose number a file has.
func pidFileProbe(path string) probe {
	return func(context.Context) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		text, err := readBounded(f, maxContent, path)
		if err != nil {
			return err
		}
		first, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
		pid, err := strconv.Atoi(strings.TrimSpace(first))
		if err != nil || pid < 1 {
			return fmt.Errorf("%s has no process number", path)
		}
		if _, err := processName(pid); err != nil {
			return fmt.Errorf("process %d of %s %w", pid, path, err)
		}
		return nil
	}
}

// processProbe asks whether a process of this name runs: the name of its
// program, or the one that it gave itself.
func processProbe(name string) probe {
	var last atomic.Int64 // the process found before: mostly it is still there
	return func(ctx context.Context) error {
		if pid := int(last.Load()); pid > 0 && isCalled(pid, name) {
			return nil
		}
		entries, err := os.ReadDir("/proc")
		if err != nil {
			return fmt.Errorf("list processes: %w", err)
		}
		for _, e := range entries {
			pid, err := strconv.Atoi(e.Name())
			if err == nil && isCalled(pid, name) {
				last.Store(int64(pid))
				return nil
			}
			if ctx.Err() != nil {
				return inTime(ctx, ctx.Err())
			}
		}
		return fmt.Errorf("%s %w", name, errNoProcess)
	}
}

// maxComm is how much of a process's name the kernel keeps.
const maxComm = 15

// isCalled reports whether the process lives and has the name.
func isCalled(pid int, name string) bool {
	comm, err := processName(pid)
	if err != nil {
		return false
	}
	if comm == name {
		return true
	}
	// The kernel's name is cut short, and a script's is its interpreter's.
	command, err := readStart(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	program, _, _ := bytes.Cut(command, []byte{0})
	base := filepath.Base(string(program))
	// "nginx: master process" is nginx.
	base, _, _ = strings.Cut(base, ":")
	return base == name || len(name) > maxComm && comm == name[:maxComm]
}

// processName returns the name that the kernel has for a living process.
func processName(pid int) (string, error) {
	stat, err := readStart(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", errNoProcess
	}
	// "12 (a name) S …": the name may have brackets and blanks of its own.
	begin, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if begin < 0 || end < begin || end+2 >= len(stat) {
		return "", errNoProcess
	}
	if state := stat[end+2]; state == 'Z' || state == 'X' {
		return "", errNoProcess
	}
	return string(stat[begin+1 : end]), nil
}

// readStart reads the first bytes of a file of /proc.
func readStart(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, 4096)
	n, err := f.Read(data)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return data[:n], nil
}
