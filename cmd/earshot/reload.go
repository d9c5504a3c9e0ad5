package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"earshot/coordinator"
)

func (a *app) reloadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have the agent read its config again",
		Long: `Have the agent read its config again, as a SIGHUP does. What can change while it
runs is in effect at once; what needs a restart is named. A config with an error
changes nothing. Services belong to the cluster: see "earshot apply".`,
		Args: cobra.NoArgs,
	}
	return a.clientCommand(cmd, func(cmd *cobra.Command, c *coordinator.Client, _ []string) error {
		r, err := c.Reload(cmd.Context())
		if err != nil {
			return err
		}
		describeReload(a.stdout, r)
		return nil
	})
}

// describeReload says what came of it.
func describeReload(w io.Writer, r coordinator.Reloaded) {
	if len(r.Changed)+len(r.Apply)+len(r.Restart) == 0 {
		fmt.Fprintln(w, "read again: nothing has changed")
		return
	}
	line := func(keys []string, what string) {
		if len(keys) > 0 {
			fmt.Fprintf(w, "%s: %s\n", what, strings.Join(keys, ", "))
		}
	}
	line(r.Changed, "in effect")
	line(r.Apply, "the cluster's, to be changed with `earshot apply`")
	line(r.Restart, "needs a restart of the agent")
}
