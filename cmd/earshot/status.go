package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"earshot/coordinator"
)

// watchInterval is the time between two looks of --watch.
const watchInterval = time.Second

func (a *app) statusCommand() *cobra.Command {
	var asJSON, watch, all bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show nodes, services, who answers what share, and what moves",
		Args:  cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON (docs/cli-json.md); with --watch a line each")
	cmd.Flags().BoolVar(&watch, "watch", false, "go on showing it until interrupted")
	cmd.Flags().BoolVar(&all, "all", false, "list every node of a large cluster")
	return a.clientCommand(cmd, func(cmd *cobra.Command, c *coordinator.Client, _ []string) error {
		show := func(w io.Writer, s coordinator.Status) error {
			if asJSON {
				return writeStatusJSON(w, s, !watch)
			}
			_, err := io.WriteString(w, renderStatus(s, statusView{terminal: a.terminal, All: all}))
			return err
		}
		if !watch {
			s, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			return show(a.stdout, s)
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		return watchStatus(ctx, c.Status, a.screen(asJSON), show)
	})
}

// writeStatusJSON prints the status as the contract has it: lists are never
// null.
func writeStatusJSON(w io.Writer, s coordinator.Status, indent bool) error {
	enc := json.NewEncoder(w)
	if indent {
		enc.SetIndent("", "  ")
	}
	return enc.Encode(withoutNulls(s))
}

// withoutNulls gives every list that is always there a value.
func withoutNulls(s coordinator.Status) coordinator.Status {
	s.Nodes = append([]coordinator.NodeStatus{}, s.Nodes...)
	s.Services = append([]coordinator.ServiceStatus{}, s.Services...)
	s.Warnings = append([]string{}, s.Warnings...)
	for i := range s.Services {
		service := &s.Services[i]
		service.Ports = append([]string{}, service.Ports...)
		service.Nodes = append([]coordinator.ShareStatus{}, service.Nodes...)
	}
	return s
}

// watchStatus shows the status again and again until ctx ends. An agent that
// is away is said to be, and asked again: it may be restarting.
func watchStatus(ctx context.Context, ask func(context.Context) (coordinator.Status, error), out *screen, show func(io.Writer, coordinator.Status) error) error {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		s, err := ask(ctx)
		if ctx.Err() != nil {
			return nil
		}
		err = out.draw(func(w io.Writer) error {
			if err != nil {
				_, err := fmt.Fprintf(w, "%v; trying again\n", err)
				return err
			}
			return show(w, s)
		})
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
