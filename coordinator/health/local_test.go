package health

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "weight")
	spec := Spec{Kind: File, Target: path}
	judges(t, spec, "does not exist")
	write(t, path, "5\n")
	judges(t, spec, "")
	spec.Expect = "/^[1-9]/"
	judges(t, spec, "")
	write(t, path, "0\n")
	judges(t, spec, "does not match")
	write(t, path, string(make([]byte, maxContent+1)))
	judges(t, spec, "longer than 64 KiB")
	spec.Target = dir
	judges(t, spec, "no ordinary file")
	spec.Expect = ""
	judges(t, spec, "")
}

// A pipe that nobody writes to would be waited on for ever.
func TestFileDoesNotWaitForAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	judges(t, Spec{Kind: File, Target: path, Expect: "x"}, "no ordinary file")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// program copies a program under a name that no other has.
func program(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestProcess(t *testing.T) {
	for _, name := range []string{"es-short", "earshot-test-with-a-long-name"} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(program(t, name), "60")
			byName := Spec{Kind: Process, Target: name}
			c := makeCheck(t, byName)
			a := attempts{check: c}
			if err := a.once(t.Context()); err == nil {
				t.Fatal("it runs before its start")
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			pidFile := filepath.Join(t.TempDir(), "pid")
			write(t, pidFile, fmt.Sprintf(" %d\n", cmd.Process.Pid))
			byFile := Spec{Kind: Process, Target: pidFile}
			for range 2 { // the second time it is known where to look
				if err := a.once(t.Context()); err != nil {
					t.Error(err)
				}
				judges(t, byFile, "")
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			// Before it is reaped, too: a zombie serves nobody.
			eventually(t, "the process is no more", func() bool { return a.once(t.Context()) != nil })
			judges(t, byFile, "does not run")
			_ = cmd.Wait() // says that it was killed
			judges(t, byName, name+" does not run")
			judges(t, byFile, "does not run")
		})
	}
}

func TestPidFilesThatAreNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	spec := Spec{Kind: Process, Target: path}
	judges(t, spec, "no such file")
	for _, text := range []string{"", "nginx\n", "-1\n", "0\n"} {
		write(t, path, text)
		judges(t, spec, "no process number")
	}
	write(t, path, string(make([]byte, maxContent+1)))
	judges(t, spec, "longer than")
}
