package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"earshot/e2e/lab"
	"earshot/e2e/load"

	"golang.org/x/sys/unix"
)

const (
	exitFailed = 1
	exitUsage  = 2
)

func main() { os.Exit(start(os.Args[1:])) }

// options are what the command line says.
type options struct {
	seed    uint64
	faults  int
	minutes float64
	kills   int
	calm    float64
	busy    int
	only    string
	keep    bool
	nodes   int
	lease   time.Duration
	leases  float64 // the bound on gaps
	bin     string
	dir     string
}

// bound is how long a bucket may be without a node after one fault: two leases
// and an election.
func (o options) bound() time.Duration { return time.Duration(o.leases * float64(o.lease)) }

// start enters the namespaces and breaks things there.
func start(args []string) int {
	o, err := parseOptions(args, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return exitUsage
	}
	return lab.Program{
		Before: func() error { return prepare(o.bin) },
		Run:    func() int { return run(o) },
		Roles:  load.Roles(),
	}.Main()
}

// parseOptions reads the command line; what is wrong with it is written to w.
func parseOptions(args []string, w io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("nemesis", flag.ContinueOnError)
	flags.SetOutput(w)
	flags.Uint64Var(&o.seed, "seed", 0, "of all random choices (default: from the clock)")
	flags.IntVar(&o.faults, "faults", 0, "end after so many faults (default 100 without -minutes, -kills and -calm)")
	flags.Float64Var(&o.minutes, "minutes", 0, "end after so many minutes")
	flags.IntVar(&o.kills, "kills", 0, "kill all agents at once so often, while commands run, and look for lost ones")
	flags.Float64Var(&o.calm, "calm", 0, "break nothing for so many minutes: nothing may change")
	flags.IntVar(&o.busy, "busy", 0, "so many busy processes run beside a calm")
	flags.StringVar(&o.only, "only", "", "only faults with this `text` in their names")
	flags.BoolVar(&o.keep, "keep-going", false, "go on after an objection, and list all of them at the end")
	flags.IntVar(&o.nodes, "nodes", 3, "nodes of the cluster, 3 or more")
	flags.DurationVar(&o.lease, "lease", 300*time.Millisecond, "the cluster's lease")
	flags.Float64Var(&o.leases, "bound", 3, "how many leases a bucket may be without a node after one fault")
	flags.StringVar(&o.bin, "bin", "", "the earshot `program`; it is built from this module by default")
	flags.StringVar(&o.dir, "dir", "", "`directory` for the nodes' data (default: in memory)")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.nodes < 3 || flags.NArg() > 0 {
		fmt.Fprintln(w, "usage: nemesis [flags]; three nodes at least")
		return o, errors.New("wrong use")
	}
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano()) & 0xffffff
	}
	if o.faults == 0 && o.minutes == 0 && o.kills == 0 && o.calm == 0 {
		o.faults = 100
	}
	return o, nil
}

// prepare builds the program under test, unless another is named.
func prepare(bin string) error {
	if err := lab.EndWithParent(); err != nil || bin != "" {
		return err
	}
	return lab.Build(lab.DefaultBin)
}

// run does what was asked for and returns the exit status.
func run(o options) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	if o.bin == "" {
		o.bin = lab.DefaultBin
	}
	var err error
	if o.bin, err = filepath.Abs(o.bin); err == nil {
		fmt.Printf("seed %d, lease %v, %d nodes, gaps up to %v\n", o.seed, o.lease, o.nodes, o.bound())
		err = carryOut(ctx, o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "nemesis: %v\n", err)
		return exitFailed
	}
	return 0
}

// carryOut runs the faults, the calm and the kills that were asked for, one
// after the other.
func carryOut(ctx context.Context, o options, out io.Writer) (err error) {
	if o.faults > 0 || o.minutes > 0 {
		if err := attackFor(ctx, o, out); err != nil {
			return err
		}
	}
	if o.calm > 0 {
		if err := calm(ctx, o, out); err != nil {
			return err
		}
	}
	if o.kills == 0 || ctx.Err() != nil {
		return nil
	}
	return killLoop(ctx, o, out)
}

// attackFor runs faults for a count or a time.
func attackFor(ctx context.Context, o options, out io.Writer) (err error) {
	c, err := newCampaign(ctx, o, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if o.minutes > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(o.minutes*float64(time.Minute)))
		defer cancel()
	}
	return c.run(ctx, o.faults)
}
