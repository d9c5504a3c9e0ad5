package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// installLimit is the time for one apt-get.
const installLimit = 90 * time.Second

// needServers installs HAProxy, and nginx for the nodes, if they are missing and
// this user may. Without HAProxy the comparison with it is left out; without
// nginx, Go's own server takes its place.
func needServers(log io.Writer) {
	if err := need(log, "haproxy"); err != nil {
		fmt.Fprintf(log, "bench: WARNING: HAPROXY IS MISSING, NOTHING WILL BE COMPARED WITH IT: %v\n"+
			"bench: install it (apt-get install haproxy) and run this again\n", err)
	}
	// Where there is an init system, the package would start a web server on
	// this machine's port 80.
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		return
	}
	if err := need(log, "nginx"); err != nil {
		fmt.Fprintf(log, "bench: nginx is missing, Go's net/http will serve: %v\n", err)
	}
}

var errNotRoot = errors.New("not installed, and this user is not root")

// need installs a program if it is missing.
func need(log io.Writer, name string) error {
	if _, err := findProgram(name); err == nil {
		return nil
	}
	if os.Geteuid() != 0 {
		return errNotRoot
	}
	fmt.Fprintf(log, "bench: installing %s (apt-get install %s)\n", name, name)
	return aptInstall(name)
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
