package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// installLimit is the time for one apt-get.
const installLimit = 90 * time.Second

// FindProgram looks for an installed program, also where only root's PATH leads.
func FindProgram(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}

var errNotRoot = errors.New("not installed, and this user is not root")

// Need installs a program from a package if it is missing. Call it in
// Program.Before: it takes the user's own network.
func Need(log io.Writer, name, from string) error {
	if _, err := FindProgram(name); err == nil {
		return nil
	}
	if os.Geteuid() != 0 {
		return errNotRoot
	}
	fmt.Fprintf(log, "installing %s (apt-get install %s)\n", name, from)
	return aptInstall(from)
}

// aptInstall installs a package, with fresh lists if the old ones do not do.
func aptInstall(name string) error {
	install := []string{"install", "-y", "-q", "--no-install-recommends", name}
	if aptGet(install...) == nil {
		return nil
	}
	if err := aptGet("update", "-q"); err != nil {
		return err
	}
	return aptGet(install...)
}

func aptGet(args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), installLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("apt-get %s: %w: %s", args[0], err, lastLine(out))
	}
	return nil
}

// lastLine is the end of a program's output.
func lastLine(out []byte) string {
	const enough = 200
	return string(out[max(0, len(out)-enough):])
}
