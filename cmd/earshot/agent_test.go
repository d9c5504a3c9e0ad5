package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
)

func TestFirstSignalStopsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals := make(chan os.Signal, 2)
		signals <- syscall.SIGTERM
		stopped := false
		err := superviseAgent(t.Context(), signals, slog.New(slog.DiscardHandler), func(ctx context.Context) error {
			<-ctx.Done()
			stopped = true
			return ctx.Err()
		})
		if err != nil || !stopped {
			t.Errorf("stopped %v, error %v", stopped, err)
		}
	})
}

func TestSecondSignalForces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals := make(chan os.Signal, 2)
		signals <- syscall.SIGINT
		signals <- syscall.SIGINT
		never := make(chan struct{})
		err := superviseAgent(t.Context(), signals, slog.New(slog.DiscardHandler), func(context.Context) error {
			<-never
			return nil
		})
		if !errors.Is(err, errForced) || exitStatus(err) != exitFailed {
			t.Errorf("got %v", err)
		}
		close(never)
	})
}

func TestAgentsOwnEnd(t *testing.T) {
	boom := errors.New("boom")
	err := superviseAgent(t.Context(), nil, slog.New(slog.DiscardHandler), func(context.Context) error { return boom })
	if !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
}

func TestNotifySystemd(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	notifySystemd(logger, notifyReady)
	buf := make([]byte, 64)
	n, err := conn.Read(buf)
	if err != nil || string(buf[:n]) != "READY=1" {
		t.Errorf("got %q, %v", buf[:n], err)
	}

	t.Setenv("NOTIFY_SOCKET", socket+"-gone")
	notifySystemd(logger, notifyReady)
	if !strings.Contains(log.String(), "notify systemd") {
		t.Errorf("a failure is not logged: %s", &log)
	}
}
