package main

import (
	"log/slog"
	"net"
	"os"
)

// What systemd is told (sd_notify).
const (
	// notifyReady is sent once the kernel state stands.
	notifyReady    = "READY=1"
	notifyStopping = "STOPPING=1"
)

// notifySystemd tells systemd how the agent is, if it was started by systemd
// with Type=notify. A failure is logged: the agent goes on without.
func notifySystemd(logger *slog.Logger, state string) {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return
	}
	// A leading @ (abstract socket) is understood by package net.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(state))
		conn.Close()
	}
	if err != nil {
		logger.Warn("notify systemd", "state", state, "err", err)
	}
}
