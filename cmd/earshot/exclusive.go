package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// exclusiveName is an abstract socket, of which there is one in a network
// namespace, as there is one kernel state to write.
const exclusiveName = "@earshot-agent"

// takeNamespace makes this the one agent that writes to the kernel in this
// network namespace, until the result is closed or the process ends.
func takeNamespace() (io.Closer, error) {
	l, err := net.Listen("unix", exclusiveName)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, withHint(fmt.Errorf("%w: another one, with a socket and data_dir of its own, serves in this network namespace", errRunning),
			"one agent serves all services of a machine: name them all in its configuration")
	}
	if err != nil {
		return nil, fmt.Errorf("take the network namespace: %w", err)
	}
	return l, nil
}
