package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"earshot/coordinator"
)

func (a *app) forgetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "forget NODE",
		Short: "Take a node that never comes back out of the cluster",
		Long: `Take a node that never comes back out of the cluster: its vote and its place in the
status go. Only one that has failed can be forgotten; stop the agent of one that lives.

Should the machine come back, its agent says that it was forgotten, and ends; with its
data_dir emptied it joins anew.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNodes(0),
	}
	return a.clientCommand(cmd, func(cmd *cobra.Command, c *coordinator.Client, args []string) error {
		if err := c.Forget(cmd.Context(), coordinator.ForgetRequest{Node: args[0]}); err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "%s is forgotten\n", args[0])
		return nil
	})
}
