package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"earshot/coordinator"
	"earshot/hashmode"
)

func (a *app) moveCommand() *cobra.Command {
	var unpin bool
	cmd := &cobra.Command{
		Use:   "move SERVICE BUCKETS NODE",
		Short: "Move buckets to a node by hand and pin them there",
		Long: `Move buckets of a service to a node by hand and pin them there: no plan moves
them while the node lives and is in. --unpin leaves them to the plan again.`,
		Example: `  earshot move web 7 n2
  earshot move web 0-63,100 n2
  earshot move --unpin web 0-63,100`,
		Args: func(_ *cobra.Command, args []string) error {
			if unpin && len(args) != 2 {
				return fmt.Errorf("--unpin takes SERVICE BUCKETS, not %d arguments", len(args))
			}
			if !unpin && len(args) != 3 {
				return fmt.Errorf("takes SERVICE BUCKETS NODE, not %d arguments", len(args))
			}
			return nil
		},
		ValidArgsFunction: a.completeMove,
	}
	cmd.Flags().BoolVar(&unpin, "unpin", false, "leave the buckets to the plan again (without NODE)")
	return a.clientCommand(cmd, func(cmd *cobra.Command, c *coordinator.Client, args []string) error {
		// The agent knows how many buckets the service has.
		buckets, err := hashmode.ParseSet(args[1], hashmode.MaxBuckets)
		if err != nil {
			return misuse{err}
		}
		if buckets.Empty() {
			return misusef("no buckets named (write them as in 7 or 0-63,100)")
		}
		request := coordinator.MoveRequest{Service: args[0], Buckets: buckets.String()}
		if !unpin {
			request.Node = args[2]
		}
		if err := c.Move(cmd.Context(), request); err != nil {
			return err
		}
		if unpin {
			fmt.Fprintf(a.stdout, "%s: %s unpinned\n", request.Service, plural(buckets.Len(), "bucket"))
			return nil
		}
		fmt.Fprintf(a.stdout, "%s: %s pinned to %s\n", request.Service, plural(buckets.Len(), "bucket"), request.Node)
		return nil
	})
}

// plural counts things.
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
