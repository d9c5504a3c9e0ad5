package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"earshot/raftstore"
)

func (a *app) recoverCommand() *cobra.Command {
	var file string
	var yes bool
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Go on with this node alone when most voters are lost for good",
		Long: `Go on with this node alone when most voters are lost for good and the cluster can
agree on nothing any more. Run it on one survivor, with its agent stopped. It says what
it is about to do, and asks.

Nodes that can still be started are to be started instead.`,
		Args: cobra.NoArgs,
	}
	a.configFlag(cmd, &file)
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.RunE = a.does(func(*cobra.Command, []string) error {
		cfg, err := loadConfig(file)
		if err != nil {
			return err
		}
		return a.recover(cfg, yes, time.Now())
	})
	return cmd
}

// errNotAsked: nobody is there to say yes.
var errNotAsked = errors.New("nothing done: no terminal to ask on")

// errDeclined ends a recovery that was not wanted.
var errDeclined = errors.New("nothing done")

// recover describes the recovery, asks, and carries it out.
func (a *app) recover(cfg config, yes bool, now time.Time) (err error) {
	address, err := cfg.resolveListen()
	if err != nil {
		return err
	}
	r, err := raftstore.OpenRecovery(cfg.DataDir, cfg.Node)
	if err != nil {
		return withHint(err, recoverHint(err))
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	backup := cfg.DataDir + ".before-recover-" + now.UTC().Format("20060102T150405Z")
	describeRecovery(a.stdout, cfg, r, backup)
	if !yes {
		answer, asked := a.question("Go on? Type yes: ")
		switch {
		case !asked:
			return withHint(misuse{errNotAsked}, "read the above, then run it with --yes")
		case strings.TrimSpace(answer) != "yes":
			return errDeclined
		}
	}
	if err := r.Commit(backup, address); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "recovered; start the agent: systemctl start earshot\n")
	return nil
}

// recoverHint is the way out of what keeps a recovery from beginning.
func recoverHint(err error) string {
	switch {
	case errors.Is(err, raftstore.ErrInUse):
		return "stop it first: systemctl stop earshot"
	case errors.Is(err, raftstore.ErrNothing):
		return "run it on a node that was a member; this one simply joins when its agent starts"
	}
	return ""
}

// describeRecovery says what is known, what will be done, and what is lost.
func describeRecovery(w io.Writer, cfg config, r *raftstore.Recovery, backup string) {
	st := r.State
	var nodes, others []string
	for _, name := range st.NodeNames() {
		n := st.Nodes[name]
		if name == cfg.Node {
			nodes = append(nodes, name+" (this one)")
			continue
		}
		nodes = append(nodes, name+" at "+n.Listen)
		others = append(others, name)
	}
	voters := 0
	for _, s := range r.Servers {
		if s.Voter {
			voters++
		}
	}
	rest := "the others"
	if len(others) > 0 {
		rest = strings.Join(others, ", ")
	}
	fmt.Fprintf(w, `The cluster as %s knows it, at the end of its log (index %d, term %d):
  nodes     %s
  voters    %d
  services  %s

This is about to:
  copy      %s to %s
  change    %s becomes the only voter of a new cluster with the same services and map.
            Once its agent runs and %s are judged dead, it answers for every bucket.

Lost is what the others had agreed on and %s has not heard of, and every connection
that was open on another node.

Before you go on:
  - If enough nodes to make %d of %d voters can still be started, start them instead.
  - %s must not run now, and never again with their old data_dir: with it they
    can be the old cluster, and answer the same clients.
  - Do this on one node only. On every other survivor: stop the agent, empty data_dir,
    start the agent; it joins this cluster anew.
  - Nodes that never come back: earshot forget NODE.

`, cfg.Node, r.Index, r.Term, strings.Join(nodes, ", "), voters, describeServices(st),
		cfg.DataDir, backup, cfg.Node, rest, cfg.Node, voters/2+1, voters, rest)
}

func describeServices(st *raftstore.State) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(st.Services)) {
		all = append(all, fmt.Sprintf("%s %s", name, st.Services[name].Address.Addr()))
	}
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}
