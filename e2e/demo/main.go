// Command demo shows Earshot at work in half a minute: three nodes and a client
// with real HTTP traffic in network namespaces. A node is taken out and brought
// back, one loses power and returns, and every figure is measured from what the
// client was answered.
//
// It needs no root where user namespaces work, ends by itself and leaves nothing
// behind, however it ends (see package lab). The exit status is 0 only if the
// client lost nothing but what the power loss broke.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"earshot/e2e/lab"
	"earshot/e2e/load"

	"golang.org/x/sys/unix"
)

const (
	// limit is the time for everything but building the program.
	limit = 38 * time.Second

	exitFailed = 1
	exitUsage  = 2
)

func main() { os.Exit(start(os.Args[1:])) }

// start enters the namespaces and plays the demo there.
func start(args []string) int {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	bin := flags.String("bin", "", "the earshot `program`; it is built from this module by default")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil || flags.NArg() > 0:
		return exitUsage
	}
	roles := load.Roles()
	roles[roleProbe] = probeNamespaces
	return lab.Program{
		Before: func() error { return prepare(*bin) },
		Run:    func() int { return play(*bin) },
		Roles:  roles,
	}.Main()
}

// prepare does what needs the user's own network and file system.
func prepare(bin string) error {
	if err := lab.EndWithParent(); err != nil {
		return err
	}
	if err := checkNamespaces(); err != nil {
		return err
	}
	if bin != "" {
		return nil
	}
	return lab.Build(lab.DefaultBin)
}

// play tells the story inside the namespaces and returns the exit status.
func play(bin string) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done within %v", limit))
	defer cancel()
	if bin == "" {
		bin = lab.DefaultBin
	}
	err := perform(ctx, bin, newDisplay(os.Stdout))
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil && !errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		err = context.Cause(ctx)
	}
	fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
	return exitFailed
}

// perform builds the stage, plays the story on it and clears it away.
func perform(ctx context.Context, bin string, d *display) (err error) {
	bin, err = filepath.Abs(bin)
	if err != nil {
		return err
	}
	d.say("Building a switch, three nodes and a client in namespaces of this machine ...")
	c, err := newCast(ctx, bin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	s := newStory(c, d)
	if err := s.tell(ctx); err != nil {
		return fmt.Errorf("%w%s", err, c.logs())
	}
	return s.end()
}
