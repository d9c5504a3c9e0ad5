package main

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"

	"golang.org/x/sys/unix"
)

func TestEveryThreadOfTheAgentHasItsPriority(t *testing.T) {
	t.Cleanup(func() {
		_ = eachThread(func(id int) error {
			return unix.SchedSetAttr(id, &unix.SchedAttr{Policy: unix.SCHED_NORMAL}, 0)
		})
	})
	var log bytes.Buffer
	raisePriority(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if log.Len() > 0 {
		t.Skipf("not allowed to: %s", &log)
	}
	err := eachThread(func(id int) error {
		a, err := unix.SchedGetAttr(id, 0)
		if err == nil && (a.Policy != unix.SCHED_NORMAL || a.Nice != agentNice) {
			return errors.New("not at the agent's priority")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
