package main

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"earshot/coordinator"
	"earshot/nft"
)

var errCheck = errors.New("this machine cannot run the node as configured")

func (a *app) checkCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and what it needs of the kernel; change nothing",
		Args:  cobra.NoArgs,
		RunE: a.does(func(*cobra.Command, []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			findings := checkHost(cfg)
			if !cfg.witness() { // it needs nothing of the kernel
				findings = append(findings, a.kernel.Probe(kernelServices(cfg.Services))...)
			}
			return printFindings(a.stdout, cfg, findings)
		}),
	}
	a.configFlag(cmd, &file)
	return cmd
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

// printFindings lists what was looked at, and fails if something does not do.
func printFindings(w io.Writer, cfg config, findings []nft.Finding) error {
	does := plural(len(cfg.Services), "service")
	if cfg.witness() {
		does = "a witness"
	}
	fmt.Fprintf(w, "ok    %s: node %s, %s\n", cfg.File, cfg.Node, does)
	for _, warning := range cfg.Warnings {
		fmt.Fprintf(w, "warn  %s\n", warning)
	}
	labels := map[nft.Severity]string{nft.OK: "ok  ", nft.Warn: "warn", nft.Fail: "FAIL"}
	failed := false
	for _, f := range findings {
		fmt.Fprintf(w, "%s  %v\n", labels[f.Severity], failure(f))
		if f.Mend != "" && f.Severity != nft.OK {
			fmt.Fprintf(w, "      hint: %s\n", f.Mend)
		}
		failed = failed || f.Severity == nft.Fail
	}
	if failed {
		return errCheck
	}
	return nil
}
