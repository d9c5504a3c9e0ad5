package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"earshot/coordinator"
)

func (a *app) flushCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "flush",
		Short: "Remove every trace of Earshot from this machine's kernel",
		Long: `Remove every trace of Earshot from this machine's kernel: rules, shared addresses,
MAC memberships; arp_announce gets its former value again. What others put there is
left alone, and so are the files in the data directory. An agent that runs would put everything back: stop it first.`,
		Args: cobra.NoArgs,
	}
	return a.clientCommand(cmd, func(cmd *cobra.Command, c *coordinator.Client, _ []string) error {
		if agentRuns(cmd.Context(), c) {
			return withHint(fmt.Errorf("an agent runs here (%s)", a.socket), "stop it first: systemctl stop earshot")
		}
		removed, err := a.kernel.Flush()
		for _, what := range removed {
			fmt.Fprintf(a.stdout, "removed %s\n", what)
		}
		if err == nil && len(removed) == 0 {
			fmt.Fprintln(a.stdout, "nothing to remove")
		}
		return err
	})
}

// agentRuns reports whether an agent is at the socket, even one that does not
// answer in time.
func agentRuns(ctx context.Context, c *coordinator.Client) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err := c.Status(ctx)
	return !errors.Is(err, coordinator.ErrNoAgent)
}
