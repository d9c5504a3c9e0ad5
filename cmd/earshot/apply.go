package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"earshot/coordinator"
)

// errNotApplied: the cluster would refuse the changes.
var errNotApplied = errors.New("cannot be applied")

func (a *app) applyCommand() *cobra.Command {
	var dryRun, yes, prune bool
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Change the cluster's services to what the agent's config says",
		Long: `Change the services of the whole cluster, at once, to what the config file of this
node's agent says. The agent reads it again first. The changes are shown, and
made after a "yes".

Open flows stay where they are, whatever changes. Where packets come to other nodes
than before (another hash, another number of buckets), new flows wait for some
milliseconds, until all nodes have taken the change in. A service's address and MAC
cannot change.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show the changes and make none")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&prune, "prune", false, "remove services that the file does not have; their open flows break")
	return a.clientCommand(cmd, func(cmd *cobra.Command, c *coordinator.Client, _ []string) error {
		plan, err := c.PlanApply(cmd.Context(), coordinator.ApplyRequest{Prune: prune})
		if err != nil {
			return err
		}
		describeApply(a.stdout, plan)
		switch {
		case plan.Refused != "":
			return withHint(fmt.Errorf("%w: %s", errNotApplied, plan.Refused), plan.Hint)
		case len(plan.Services) == 0 || dryRun:
			return nil
		}
		if !yes {
			answer, asked := a.question("Change the cluster? Type yes: ")
			switch {
			case !asked:
				return withHint(misuse{errNotAsked}, "read the above, then run it with --yes")
			case strings.TrimSpace(answer) != "yes":
				return errDeclined
			}
		}
		if err := c.Apply(cmd.Context(), plan.Changes); err != nil {
			return err
		}
		fmt.Fprintln(a.stdout, "applied; nodes whose file differs say so in `earshot status`")
		return nil
	})
}

// describeApply shows the changes.
func describeApply(w io.Writer, p coordinator.ApplyPlan) {
	for _, s := range p.Services {
		fmt.Fprintf(w, "%s: %s\n", s.Name, s.Change)
		for _, k := range s.Keys {
			switch s.Change {
			case coordinator.ChangeChanged:
				fmt.Fprintf(w, "  %s: %s → %s\n", k.Key, orNone(k.From), orNone(k.To))
			case coordinator.ChangeNew:
				fmt.Fprintf(w, "  %s: %s\n", k.Key, orNone(k.To))
			}
		}
		switch {
		case s.Change == coordinator.ChangeRemoved:
			fmt.Fprintln(w, "  its open flows break")
		case s.Moves:
			fmt.Fprintln(w, "  all of its buckets are handed over: open flows stay where they are")
		}
		if why := p.Unserved[s.Name]; why != "" {
			fmt.Fprintf(w, "  this node could not serve it: %s\n", why)
		}
	}
	for _, name := range p.Left {
		fmt.Fprintf(w, "%s: not in the file, and left alone (--prune removes it)\n", name)
	}
	if len(p.Services) == 0 {
		fmt.Fprintln(w, "nothing to change: the cluster has the services as the file says")
	}
}

// orNone writes a value that may be empty.
func orNone(value string) string {
	if value == "" || value == "[]" {
		return "none"
	}
	return strings.Trim(value, "[]")
}
