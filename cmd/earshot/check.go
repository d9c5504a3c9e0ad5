package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"earshot/coordinator"
	"earshot/coordinator/doctor"
	"earshot/nft"
)

var errCheck = errors.New("this machine cannot run the node as configured")

// errNetwork is for a node that could run, in a network that fails it.
var errNetwork = errors.New("the network does not bring every frame to every node, or a node has a fault")

func (a *app) checkCommand() *cobra.Command {
	var file, vendor string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration, the kernel and, with an agent running, the network; change nothing",
		Long: `Check the configuration and what it needs of the kernel. Where an agent runs, the
nodes exchange test frames as well: the findings tell which of them hear frames to
the cluster MAC, what keeps them from those that do not, and what mends it. It
takes some seconds and changes nothing.

With --for VENDOR it prints what a router or switch of that kind needs, for this
configuration's addresses; --for alone lists the kinds.`,
		Example: `  earshot check
  earshot check --json
  earshot check --for cisco-ios`,
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("for") {
				return cobra.MaximumNArgs(1)(cmd, args) // the vendor
			}
			return cobra.NoArgs(cmd, args)
		},
		RunE: a.does(func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("for") {
				return a.checkFor(file, append(args, vendor)[0])
			}
			return a.check(cmd.Context(), file, asJSON)
		}),
	}
	a.configFlag(cmd, &file)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON (docs/cli-json.md)")
	cmd.Flags().StringVar(&vendor, "for", "", "print what this `vendor`'s router or switch needs")
	cmd.Flags().Lookup("for").NoOptDefVal = listVendors
	fixedCompletion(cmd, "for", vendors()...)
	return cmd
}

// check prints what was found on this machine and, by its agent, in the
// network.
func (a *app) check(ctx context.Context, file string, asJSON bool) error {
	cfg, err := loadConfig(file)
	if err != nil {
		return err
	}
	r := checkup{Findings: []doctor.Finding{checkedConfig(cfg)}}
	for _, warning := range cfg.Warnings {
		r.Findings = append(r.Findings, doctor.Finding{Severity: nft.Warn, What: warning})
	}
	found := checkHost(cfg)
	if !cfg.witness() { // it needs nothing of the kernel
		found = append(found, a.kernel.Probe(kernelServices(cfg.Services))...)
	}
	for _, f := range found {
		r.Findings = append(r.Findings, doctor.FromKernel(f))
	}
	here := doctor.Worst(r.Findings)
	r.examine(ctx, coordinator.NewClient(cfg.Socket))
	if err := r.print(a.stdout, asJSON); err != nil {
		return err
	}
	switch {
	case here == nft.Fail:
		return errCheck
	case doctor.Worst(r.Findings) == nft.Fail:
		return errNetwork
	}
	return nil
}

// examine adds what the nodes find together, if an agent runs here.
func (r *checkup) examine(ctx context.Context, agent *coordinator.Client) {
	e, err := agent.Examine(ctx)
	switch {
	case errors.Is(err, coordinator.ErrNoAgent):
		return
	case err != nil:
		r.Findings = append(r.Findings, doctor.Finding{
			Severity: nft.Warn, What: "the network was not examined: " + err.Error(), Mend: hintOf(err),
		})
		return
	}
	r.Agent = true
	for i := range e.Reports {
		if e.Reports[i].Node == e.Node {
			e.Reports[i].Findings = nil // we have looked ourselves
		}
	}
	r.Findings = append(r.Findings, doctor.Judge(e.Reports)...)
}

// checkedConfig says what the configuration is for.
func checkedConfig(cfg config) doctor.Finding {
	does := plural(len(cfg.Services), "service")
	if cfg.witness() {
		does = "a witness"
	}
	return doctor.Finding{Severity: nft.OK, What: fmt.Sprintf("%s: node %s, %s", cfg.File, cfg.Node, does)}
}

// checkHost looks at what the configuration names on this machine.
func checkHost(cfg config) []nft.Finding {
	key := nft.Finding{What: "key file " + cfg.KeyFile, Severity: nft.OK}
	if _, err := readKey(cfg.KeyFile); err != nil {
		key = nft.Finding{What: "key file", Severity: nft.Fail, Err: err, Mend: hintOf(err)}
	}
	listen := nft.Finding{What: "listen " + cfg.Listen, Severity: nft.OK}
	switch address, err := cfg.resolveListen(); {
	case err != nil:
		listen = nft.Finding{What: "listen", Severity: nft.Fail, Err: err, Mend: hintOf(err)}
	case address != cfg.Listen:
		listen.What += " is " + address
	}
	findings := []nft.Finding{key, listen}
	if _, err := cfg.Weight.read(); err != nil {
		findings = append(findings, nft.Finding{
			What: "weight", Severity: nft.Warn, Err: err, Mend: "until the file holds a number, the node keeps the weight that the cluster knows, or 1",
		})
	}
	if warning := coordinator.SizeWarning(nodesNamed(cfg)); warning != "" {
		findings = append(findings, nft.Finding{
			What: fmt.Sprintf("peers names %s", plural(nodesNamed(cfg), "node")), Severity: nft.Warn, Err: errors.New(warning),
		})
	}
	return findings
}

// nodesNamed counts the nodes of a configuration that seems to name all: this
// one among its peers. A list without it may be a few that find the cluster.
func nodesNamed(cfg config) int {
	self, err := cfg.resolveListen()
	if err != nil || !slices.Contains(cfg.Peers, self) {
		return 0
	}
	return len(cfg.Peers)
}
