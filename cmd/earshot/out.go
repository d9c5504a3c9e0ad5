package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"earshot/coordinator"
)

func (a *app) outCommand() *cobra.Command {
	var wait, now bool
	cmd := &cobra.Command{
		Use:   "out [NODE]",
		Short: "Take a node out (default: this one): its buckets move, its flows finish",
		Long: `Take a node out (default: this one). Its buckets move to the others at once; flows
that it has stay with it until they end or the service's drain limit is over.
CLUSTERIP's "-1".

With --wait it returns once the node holds nothing any more: it can then be switched
off unnoticed. Interrupted, the node stays out; the same command goes on watching.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeNodes(0),
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "show progress until the last flow has ended")
	cmd.Flags().BoolVar(&now, "now", false, "do not wait for flows: give them up")
	return a.clientCommand(cmd, func(cmd *cobra.Command, c *coordinator.Client, args []string) error {
		node, err := c.Wish(cmd.Context(), coordinator.WishRequest{Node: optional(args), Out: true, Cut: now})
		if err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "%s is out\n", node)
		if !wait {
			return nil
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		d := drainWatch{node: node, ask: c.Status, w: a.stdout, redraw: a.terminal.Interactive}
		return d.run(ctx)
	})
}

const (
	// drainInterval is the time between two looks at a draining node.
	drainInterval = 500 * time.Millisecond
	// drainPatience is how long the agent may not answer, or show the node as
	// in, before the watch gives up.
	drainPatience = 10 * time.Second
)

// drainWatch shows how a node that is out loses its buckets and flows.
type drainWatch struct {
	node   string
	ask    func(context.Context) (coordinator.Status, error)
	w      io.Writer
	redraw bool
	// last is the line shown last; it is not written twice.
	last string
}

// run returns nil once the node holds nothing.
func (d *drainWatch) run(ctx context.Context) error {
	ticker := time.NewTicker(drainInterval)
	defer ticker.Stop()
	patience := time.Now().Add(drainPatience)
	for {
		s, err := d.ask(ctx)
		if ctx.Err() != nil {
			d.endLine()
			return withHint(fmt.Errorf("interrupted: %s stays out and drains on", d.node),
				fmt.Sprintf("`earshot out %s --wait` goes on watching, `earshot in %s` brings it back", d.node, d.node))
		}
		left := holding{}
		if err == nil {
			left, err = held(s, d.node)
		}
		var gone *goneError
		switch {
		case errors.As(err, &gone), err != nil && time.Now().After(patience):
			d.endLine()
			return err
		case err == nil && left.nothing():
			d.show(d.node + " holds nothing any more")
			d.endLine()
			return nil
		case err == nil:
			patience = time.Now().Add(drainPatience)
			d.show(left.String())
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// show writes a line: over the one before on a terminal, else only when
// something has changed.
func (d *drainWatch) show(line string) {
	if line == d.last {
		return
	}
	if d.redraw {
		fmt.Fprintf(d.w, "\r%s%s", line, clearLineEnd)
	} else {
		fmt.Fprintln(d.w, line)
	}
	d.last = line
}

func (d *drainWatch) endLine() {
	if d.redraw && d.last != "" {
		fmt.Fprintln(d.w)
	}
}

// goneError is the end of a watch that cannot end well.
type goneError struct{ text string }

func (e *goneError) Error() string { return e.text }

// holding is what a node has left of each service.
type holding struct {
	services []string
}

func (h holding) nothing() bool { return len(h.services) == 0 }

// String writes it on one line.
func (h holding) String() string { return strings.Join(h.services, "; ") }

// held says what a node that is out still holds.
func held(s coordinator.Status, node string) (holding, error) {
	i := slices.IndexFunc(s.Nodes, func(n coordinator.NodeStatus) bool { return n.Name == node })
	switch {
	case i < 0:
		return holding{}, &goneError{node + " is no longer a node of the cluster"}
	case s.Nodes[i].State == coordinator.StateFailed:
		return holding{}, &goneError{node + " failed: its flows are lost, its buckets are with the others"}
	case s.Nodes[i].State == coordinator.StateIn:
		// Either the agent asked has not heard of the wish yet, or somebody
		// has brought the node back.
		return holding{}, fmt.Errorf("%s is in: somebody has brought it back", node)
	}
	var h holding
	for _, service := range s.Services {
		for _, n := range service.Nodes {
			if n.Name != node {
				continue
			}
			own := parseBuckets(n.Own).Union(parseBuckets(n.Waiting)).Len()
			drain := parseBuckets(n.Drain).Len()
			if own+drain == 0 {
				continue
			}
			h.services = append(h.services, describeHolding(service.Name, own, drain, n.Flows))
		}
	}
	return h, nil
}

func describeHolding(service string, own, drain, flows int) string {
	var parts []string
	if own > 0 {
		parts = append(parts, plural(own, "bucket")+" to move")
	}
	if drain > 0 {
		parts = append(parts, plural(drain, "bucket")+" to drain")
	}
	parts = append(parts, plural(flows, "flow")+" left")
	return service + ": " + strings.Join(parts, ", ")
}
