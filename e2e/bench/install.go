package main

import (
	"fmt"
	"io"
	"os"

	"earshot/e2e/lab"
)

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

// need installs a program if it is missing.
func need(log io.Writer, name string) error { return lab.Need(log, name, name) }

// lastLine is the end of a program's output.
func lastLine(out []byte) string {
	const enough = 200
	return string(out[max(0, len(out)-enough):])
}
