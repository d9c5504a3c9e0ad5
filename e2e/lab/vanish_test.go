package lab

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// holdHostage starts a second program with a lab of its own and waits until
// its processes run. They are known by the mark in their arguments.
func holdHostage(t *testing.T, mark string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "hostage", mark)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "ready") {
		t.Fatalf("hostage: %q, %v", line, err)
	}
	return cmd
}

// marked lists the processes with the mark in their arguments.
func marked(mark string) ([]string, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, f := range files {
		args, err := os.ReadFile(f)
		if err != nil {
			continue // ended meanwhile
		}
		if bytes.Contains(args, []byte(mark)) {
			found = append(found, string(bytes.ReplaceAll(args, []byte{0}, []byte{' '})))
		}
	}
	return found, nil
}

// However the program ends, none of its processes is left, and with them no
// namespace: none has a name.
func TestNothingIsLeftBehind(t *testing.T) {
	for _, s := range []syscall.Signal{unix.SIGKILL, unix.SIGTERM, unix.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			mark := fmt.Sprintf("hostage-%d-%d", os.Getpid(), s)
			cmd := holdHostage(t, mark)
			Eventually(t, 5*time.Second, "hostage runs", func() error {
				found, err := marked(mark)
				if err == nil && len(found) != 6 { // outside, inside, two children with one child each
					err = fmt.Errorf("its processes: %q", found)
				}
				return err
			})
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			Eventually(t, 5*time.Second, "all processes gone", func() error {
				found, err := marked(mark)
				if err == nil && len(found) > 0 {
					err = fmt.Errorf("still there: %q", found)
				}
				return err
			})
			if _, err := os.Stat("/run/netns"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("named namespaces: %v", err)
			}
		})
	}
}

// The lab needs no root: the tests of this package once more, as nobody.
func TestRootless(t *testing.T) {
	if _, err := os.ReadFile("/proc/self/uid_map"); err != nil {
		t.Fatal(err)
	}
	if !initialUsers(t) {
		t.Log("already in a user namespace: all other tests show it")
		return
	}
	dir, err := os.MkdirTemp("", "rootless")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // lies on the private tmpfs
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "lab.test")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bin, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-test.run=ManySources|OneWay|LeftBehind|Snooping|Snapshot", "-test.v")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	t.Logf("as nobody:\n%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

// initialUsers reports whether this is no user namespace.
func initialUsers(t *testing.T) bool {
	t.Helper()
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(text)), " ") == "0 0 4294967295"
}
