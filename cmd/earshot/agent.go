package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// errForced is what a second signal ends the agent with.
var errForced = errors.New("stopped by a second signal, without the steps of an orderly stop")

func (a *app) agentCommand() *cobra.Command {
	var file, format, level string
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run this machine as a node of the cluster",
		Long: `Run this machine as a node of the cluster.

The first SIGTERM or SIGINT stops it in order, a second one at once. A node that
stops keeps its buckets for restart_lease; take it out first with "earshot out
--wait" to leave for long.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := newLogger(a.stderr, format, level)
			if err != nil {
				return err
			}
			a.understood = true
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			return a.agent(cmd.Context(), cfg, logger)
		},
	}
	a.configFlag(cmd, &file)
	cmd.Flags().StringVar(&format, "log-format", "text", "text or json")
	cmd.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	fixedCompletion(cmd, "log-format", "text", "json")
	fixedCompletion(cmd, "log-level", "debug", "info", "warn", "error")
	return cmd
}

// newLogger returns a logger with the format and level of the flags.
func newLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	switch level {
	case "debug", "info", "warn", "error":
		if err := l.UnmarshalText([]byte(level)); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("--log-level: unknown level %q (use debug, info, warn, error)", level)
	}
	options := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("--log-format: unknown format %q (use text, json)", format)
}

// agent runs the node until it fails or a signal stops it.
func (a *app) agent(ctx context.Context, cfg config, logger *slog.Logger) error {
	for _, warning := range cfg.Warnings {
		logger.Warn("configuration", "warning", warning)
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	return superviseAgent(ctx, signals, logger, func(ctx context.Context) error {
		return a.runAgent(ctx, cfg, logger)
	})
}

// superviseAgent runs the agent. The first signal ends its context; the second
// ends the wait for it.
func superviseAgent(ctx context.Context, signals <-chan os.Signal, logger *slog.Logger, run func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()

	select {
	case err := <-done:
		return err
	case s := <-signals:
		logger.Info("stopping", "signal", s.String())
		notifySystemd(logger, notifyStopping)
		stop()
	}
	select {
	case err := <-done:
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	case <-signals:
		return errForced
	}
}
