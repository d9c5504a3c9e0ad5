// Command bench measures Earshot on this machine, in network namespaces, and
// prints one table per part:
//
//	go run ./e2e/bench [-json] [part ...]
//
// Without parts it runs all of them: four minutes, and fifteen for the failover
// part unless -runs says less. Each part is a file of its own that returns a
// part (see part.go and parts).
//
// Be aware:
//   - All nodes, clients and balancers share this machine's cores. Figures
//     compare the cost of ways, not the capacity of three machines.
//   - Machines are noisy: rounds are interleaved, medians shown, ratios first.
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
	"strings"
	"time"

	"earshot/e2e/lab"
	"earshot/e2e/load"

	"golang.org/x/sys/unix"
)

const (
	// limit is the time for all parts, but for those that say otherwise.
	limit = 230 * time.Second

	exitFailed = 1
	exitUsage  = 2
)

func main() { os.Exit(start(os.Args[1:])) }

// options are what the command line says.
type options struct {
	bin   string
	dir   string
	json  bool
	runs  int // of the failover part
	parts []part
}

// start enters the namespaces and measures there.
func start(args []string) int {
	o, err := parse(args, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return exitUsage
	}
	roles := load.Roles()
	roles[roleAsk] = playAsk
	return lab.Program{
		Before: func() error { return prepare(o) },
		Run:    func() int { return measure(o) },
		Roles:  roles,
	}.Main()
}

// parse reads the command line; what is wrong with it is written to w.
func parse(args []string, w io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(w)
	flags.StringVar(&o.bin, "bin", "", "the earshot `program`; it is built from this module by default")
	flags.StringVar(&o.dir, "dir", "/var/tmp", "`directory` on the disk that the nodes' data is to lie on")
	flags.BoolVar(&o.json, "json", false, "print one JSON object instead of tables")
	flags.IntVar(&o.runs, "runs", defaultRuns, "how often each thing fails in the failover part")
	flags.Usage = func() {
		fmt.Fprintln(w, "usage: bench [flags] [part ...]\n\nparts (default: all):")
		for _, p := range parts() {
			fmt.Fprintf(w, "  %-12s %s\n", p.name, p.doc)
		}
		fmt.Fprintln(w, "\nflags:")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	var err error
	if o.runs < 1 {
		err = fmt.Errorf("-runs %d: must be 1 or more", o.runs)
		fmt.Fprintln(w, err)
		return o, err
	}
	if o.parts, err = choose(parts(), flags.Args()); err != nil {
		fmt.Fprintln(w, err)
	}
	return o, err
}

// prepare does what needs the user's own network and file system.
func prepare(o options) error {
	if err := lab.EndWithParent(); err != nil {
		return err
	}
	for _, p := range o.parts {
		if p.prepare != nil {
			p.prepare(os.Stderr)
		}
	}
	if o.bin != "" {
		return nil
	}
	return lab.Build(lab.DefaultBin)
}

// measure runs the parts inside the namespaces and returns the exit status.
func measure(o options) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	most := o.limit()
	ctx, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("not done within %v", most))
	defer cancel()
	if o.bin == "" {
		o.bin = lab.DefaultBin
	}
	if err := run(ctx, o); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		return exitFailed
	}
	return 0
}

// limit is the time for all parts that were chosen.
func (o options) limit() time.Duration {
	most := limit
	for _, p := range o.parts {
		if p.limit != nil {
			most += p.limit(o)
		}
	}
	return most
}

// run measures and prints.
func run(ctx context.Context, o options) (err error) {
	bin, err := filepath.Abs(o.bin)
	if err != nil {
		return err
	}
	r := &rig{bin: bin, log: os.Stderr, runs: o.runs}
	if r.dir, err = os.MkdirTemp(o.dir, "earshot-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	out := printer(textPrinter{os.Stdout})
	if o.json {
		out = &jsonPrinter{w: os.Stdout}
	}
	out.facts(gather(ctx, r))
	var errs []error
	for _, p := range o.parts {
		fmt.Fprintf(r.log, "bench: %s: %s\n", p.name, p.doc)
		began := time.Now()
		t, err := p.run(ctx, r)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
			if ctx.Err() != nil {
				break
			}
			continue
		}
		t.Part, t.Doc, t.Seconds = p.name, strings.TrimSuffix(p.doc, "."), time.Since(began).Seconds()
		out.table(t)
	}
	return errors.Join(append(errs, out.end())...)
}
