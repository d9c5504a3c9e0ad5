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
	"earshot/hashmode"
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
			if s, err := c.Status(cmd.Context()); err == nil {
				for _, text := range waitsFor(s, node) {
					fmt.Fprintln(a.stdout, text)
				}
			}
			return nil
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		d := drainWatch{node: node, ask: c.Status, w: a.stdout, redraw: a.terminal.Interactive, cut: now}
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

// drainWatch shows how a node that is out loses its buckets and flows, and what
// became of them.
type drainWatch struct {
	node   string
	ask    func(context.Context) (coordinator.Status, error)
	w      io.Writer
	redraw bool
	cut    bool // flows are not waited for
	// last is what the line shown last said, times aside; it is not written
	// twice where lines stay.
	last string
	// most flows that were seen, and what was left when it was last looked.
	most int
	left holding
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
			d.show(d.node+" holds nothing any more: "+d.fate(), "")
			d.endLine()
			return nil
		case err == nil:
			patience = time.Now().Add(drainPatience)
			d.most, d.left = max(d.most, left.flows), left
			d.show(strings.Join(left.services, "; "), strings.Join(left.times, ", "))
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// fate says what became of the flows that were seen.
func (d *drainWatch) fate() string {
	switch {
	case d.most == 0:
		return "it had no flows left"
	case d.cut:
		return plural(d.most, "flow") + " given up"
	case d.left.flows > 0 && d.left.limit > 0 && d.left.limit < 2*drainInterval:
		return fmt.Sprintf("%s ended, %d were given up at the limit", plural(d.most-d.left.flows, "flow"), d.left.flows)
	}
	return plural(d.most, "flow") + " ended, none was given up"
}

// show writes a line with the times that belong to it: over the one before on
// a terminal, else only when more has changed than the times.
func (d *drainWatch) show(line, times string) {
	full := line
	if times != "" {
		full += " (" + times + ")"
	}
	switch {
	case d.redraw && full != d.last:
		fmt.Fprintf(d.w, "\r%s%s", full, clearLineEnd)
		d.last = full
	case !d.redraw && line != d.last:
		fmt.Fprintln(d.w, full)
		d.last = line
	}
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
	times    []string      // of its oldest flow and its limit
	flows    int           // of all services
	limit    time.Duration // until the last drain is over at the latest
}

func (h holding) nothing() bool { return len(h.services) == 0 }

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
	var oldest int64
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
			text := describeHolding(service.Name, own, drain, n)
			if why := heldUp(s, service, n); why != "" {
				text += "; " + why
			}
			h.services = append(h.services, text)
			h.flows += n.Flows + n.Closing
			h.limit = max(h.limit, time.Duration(n.DrainLeftMS)*time.Millisecond)
			oldest = max(oldest, n.OldestMS)
		}
	}
	if oldest > 0 {
		h.times = append(h.times, "the oldest is "+roughly(oldest)+" old")
	}
	if h.limit > 0 {
		h.times = append(h.times, roughly(h.limit.Milliseconds())+" until the limit")
	}
	return h, nil
}

func describeHolding(service string, own, drain int, n coordinator.ShareStatus) string {
	var parts []string
	if own > 0 {
		parts = append(parts, plural(own, "bucket")+" to move")
	}
	if drain > 0 {
		parts = append(parts, plural(drain, "bucket")+" to drain")
	}
	flows := plural(n.Flows, "flow") + " left"
	if n.Closing > 0 {
		flows += fmt.Sprintf(" and %d closing", n.Closing)
	}
	parts = append(parts, flows)
	return service + ": " + strings.Join(parts, ", ")
}

// waitsFor says, for each service, which buckets of a node that is out stay with
// it for now because a node restarts.
func waitsFor(s coordinator.Status, node string) []string {
	var all []string
	for _, service := range s.Services {
		for _, n := range service.Nodes {
			if n.Name != node {
				continue
			}
			if why := heldUp(s, service, n); why != "" {
				all = append(all, service.Name+": "+why)
			}
		}
	}
	return all
}

// heldUp says how many buckets of a node's share no plan moves before a node
// that restarts is back: it has them, or may have flows in them. Empty for none.
func heldUp(s coordinator.Status, service coordinator.ServiceStatus, share coordinator.ShareStatus) string {
	own, stay := parseBuckets(share.Own), hashmode.Set{}
	var names []string
	for _, n := range s.Nodes {
		i := slices.IndexFunc(service.Nodes, func(other coordinator.ShareStatus) bool { return other.Name == n.Name })
		if !n.Restarting || n.State == coordinator.StateFailed || i < 0 {
			continue
		}
		theirs := parseBuckets(service.Nodes[i].Own).Union(parseBuckets(service.Nodes[i].Drain))
		if common := own.Intersect(theirs); !common.Empty() {
			stay = stay.Union(common)
			names = append(names, n.Name)
		}
	}
	if stay.Empty() {
		return ""
	}
	return "until " + strings.Join(names, " and ") + " has restarted, " + share.Name + " keeps " + plural(stay.Len(), "bucket")
}
