package raftstore

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// raftLog writes what hashicorp/raft logs to a slog.Logger.
type raftLog struct {
	log  *slog.Logger
	name string
	args []any
}

// level is the level at which a message of Raft's is logged. Most of what it
// warns of is the ordinary course of elections, and a peer that is down is
// our own business to report.
func level(from hclog.Level, message string) slog.Level {
	if from < hclog.Error {
		return slog.LevelDebug
	}
	switch message {
	case "failed to appendEntries to",
		"failed to heartbeat to",
		"failed to make requestVote RPC",
		"failed to decode incoming command",
		"failed to flush response",
		"failed to accept connection",
		"failed to install snapshot",
		"failed to send snapshot to":
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

func (l *raftLog) Log(from hclog.Level, message string, args ...any) {
	at := level(from, message)
	ctx := context.Background()
	if !l.log.Enabled(ctx, at) {
		return
	}
	all := append(append([]any{}, l.args...), args...)
	for i, arg := range all {
		if f, ok := arg.(hclog.Format); ok && len(f) > 0 {
			all[i] = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
	}
	l.log.Log(ctx, at, "raft: "+message, all...)
}

func (l *raftLog) Trace(message string, args ...any) { l.Log(hclog.Trace, message, args...) }
func (l *raftLog) Debug(message string, args ...any) { l.Log(hclog.Debug, message, args...) }
func (l *raftLog) Info(message string, args ...any)  { l.Log(hclog.Info, message, args...) }
func (l *raftLog) Warn(message string, args ...any)  { l.Log(hclog.Warn, message, args...) }
func (l *raftLog) Error(message string, args ...any) { l.Log(hclog.Error, message, args...) }

func (l *raftLog) enabled(at slog.Level) bool { return l.log.Enabled(context.Background(), at) }

func (l *raftLog) IsTrace() bool { return l.enabled(slog.LevelDebug) }
func (l *raftLog) IsDebug() bool { return l.enabled(slog.LevelDebug) }
func (l *raftLog) IsInfo() bool  { return l.enabled(slog.LevelDebug) }
func (l *raftLog) IsWarn() bool  { return l.enabled(slog.LevelDebug) }
func (l *raftLog) IsError() bool { return l.enabled(slog.LevelWarn) }

func (l *raftLog) ImpliedArgs() []any { return l.args }
func (l *raftLog) Name() string       { return l.name }

func (l *raftLog) With(args ...any) hclog.Logger {
	return &raftLog{log: l.log, name: l.name, args: append(append([]any{}, l.args...), args...)}
}

func (l *raftLog) Named(name string) hclog.Logger {
	return &raftLog{log: l.log, name: name, args: l.args}
}
func (l *raftLog) ResetNamed(name string) hclog.Logger { return l.Named(name) }
func (l *raftLog) SetLevel(hclog.Level)                {}
func (l *raftLog) GetLevel() hclog.Level               { return hclog.Debug }

func (l *raftLog) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(l.log.Handler(), slog.LevelDebug)
}

func (l *raftLog) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return l.StandardLogger(nil).Writer()
}
