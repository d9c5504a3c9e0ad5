package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"earshot/coordinator"
	"earshot/coordinator/event"
)

func (a *app) eventsCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what happens to nodes, services and shares, until interrupted",
		Long: `Show what happens to nodes, services and shares, as this node sees it, from now on
and until interrupted. "earshot status" says how things stand.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a line of JSON for each event (docs/cli-json.md)")
	return a.clientCommand(cmd, func(cmd *cobra.Command, c *coordinator.Client, _ []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		enc := json.NewEncoder(a.stdout)
		err := c.Events(ctx, nil, func(e event.Event) error {
			if asJSON {
				return enc.Encode(e)
			}
			return writeEvent(a.stdout, e)
		})
		switch {
		case errors.Is(err, context.Canceled):
			return nil
		case errors.Is(err, coordinator.ErrStreamEnded):
			return withHint(err, "what happens before the next one listens again is in its log")
		}
		return err
	})
}

// writeEvent writes an event as a line for people.
func writeEvent(w io.Writer, e event.Event) error {
	_, err := fmt.Fprintf(w, "%s  %s\n", e.Time.Local().Format("15:04:05.000"), describeEvent(e))
	return err
}

// describeEvent says what happened.
func describeEvent(e event.Event) string {
	text := eventText(e)
	if e.Reason != "" && e.Type != event.Warning && e.Type != event.Cleared {
		text += ": " + e.Reason
	}
	return text
}

func eventText(e event.Event) string {
	share := func(verb string) string {
		return fmt.Sprintf("%s %s %s of %s (%s)", e.Node, verb, plural(e.Count, "bucket"), e.Service, e.Buckets)
	}
	switch e.Type {
	case event.Join:
		return e.Node + " joins"
	case event.Leave:
		return e.Node + " is forgotten"
	case event.Fail:
		return e.Node + " has failed"
	case event.Back:
		return e.Node + " is back"
	case event.Out:
		return e.Node + " is taken out"
	case event.In:
		return e.Node + " is brought in"
	case event.Sick:
		return e.Node + " cannot serve " + e.Service
	case event.Well:
		return e.Node + " can serve " + e.Service + " again"
	case event.Leader:
		return e.Node + " leads"
	case event.Quorum:
		return e.Node + " follows a leader with a majority"
	case event.NoQuorum:
		return e.Node + " reaches no leader with a majority"
	case event.Lease:
		return e.Node + " has a lease and answers"
	case event.NoLease:
		return e.Node + " has lost its lease and is silent"
	case event.Define:
		return e.Service + " is a new service"
	case event.Change:
		return e.Service + " has changed"
	case event.Remove:
		return e.Service + " is removed"
	case event.Gain:
		return share("answers for")
	case event.Lose:
		return share("gives up")
	case event.Drain:
		return share("keeps the flows of")
	case event.Drained:
		return share("has drained")
	case event.Repair:
		return "somebody changed the rules or addresses of " + e.Node + "; they are repaired"
	case event.Warning:
		return "warning: " + e.Reason
	case event.Cleared:
		return "no more: " + e.Reason
	case event.Reload:
		return e.Node + " has read its config"
	case event.Missed:
		return plural(int(e.Missed), "event") + " missing here: too many came at once"
	}
	return string(e.Type) // of a newer agent
}
