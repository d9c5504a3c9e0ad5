package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"earshot/coordinator"
)

func (a *app) inCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "in [NODE]",
		Short: "Bring a node back (default: this one)",
		Long: `Bring a node back: it gets its even share of the buckets, and no other bucket
moves. CLUSTERIP's "+1".`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeNodes(0),
	}
	return a.clientCommand(cmd, func(cmd *cobra.Command, c *coordinator.Client, args []string) error {
		node, err := c.Wish(cmd.Context(), coordinator.WishRequest{Node: optional(args)})
		if err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "%s is in\n", node)
		return nil
	})
}

// optional is the only argument, or nothing.
func optional(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}
