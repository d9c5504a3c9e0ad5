package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"earshot/coordinator"
)

func (a *app) whichCommand() *cobra.Command {
	var port string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "which SERVICE CLIENT[:PORT]",
		Short: "Say which bucket and which node answer a client",
		Example: `  earshot which web 192.0.2.7
  earshot which web 192.0.2.7:4711 --port tcp/443`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeServices,
	}
	cmd.Flags().StringVar(&port, "port", "", "the service's port, as in tcp/443, if the hash mode needs it")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return a.clientCommand(cmd, func(cmd *cobra.Command, c *coordinator.Client, args []string) error {
		if err := checkClient(args[1]); err != nil {
			return err
		}
		if port != "" {
			if err := checkPort(port); err != nil {
				return misusef("--port: %w", err)
			}
		}
		which, err := c.Which(cmd.Context(), args[0], args[1], port)
		if err != nil {
			return err
		}
		return printWhich(a.stdout, which, asJSON)
	})
}

// checkClient judges the text of a client, "192.0.2.7" or "192.0.2.7:4711".
func checkClient(s string) error {
	if _, err := netip.ParseAddr(s); err == nil {
		return nil
	}
	if _, err := netip.ParseAddrPort(s); err == nil {
		return nil
	}
	return misusef("%q is no client (write it as in 192.0.2.7 or 192.0.2.7:4711)", s)
}

// printWhich says who answers. Nobody is a failure: a script that asks wants
// a node.
func printWhich(w io.Writer, which coordinator.Which, asJSON bool) error {
	if asJSON {
		which.From = append([]string{}, which.From...) // never null
		if err := json.NewEncoder(w).Encode(which); err != nil {
			return err
		}
	}
	if which.Node == "" {
		return fmt.Errorf("nobody answers %s for %s: bucket %d has no owner", which.Client, which.Service, which.Bucket)
	}
	if asJSON {
		return nil
	}
	fmt.Fprintf(w, "%s answers %s for %s (bucket %d)\n", which.Node, which.Client, which.Service, which.Bucket)
	if len(which.From) > 0 {
		fmt.Fprintf(w, "connections opened before the move may still be with %s\n", strings.Join(which.From, ", "))
	}
	return nil
}
