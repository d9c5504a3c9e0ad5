package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"earshot/e2e/openings"
)

const (
	// judgeEvery is the time between two judgements of a calm.
	judgeEvery = 10 * time.Second
	// tellEvery is how many judgements there are to a line of progress.
	tellEvery = 30
)

// alarms are what agents log when a node is given up or falls silent.
var alarms = []string{"giving its buckets away", "lease lost", "cannot commit"}

// elections are what they log when one begins to lead. It costs no client
// anything, since leases go on: it is told, and no objection.
var elections = []string{"msg=leading"}

// calm breaks nothing for so many minutes, with busy processes beside the
// cluster: no node may be given up or fall silent, no bucket be without a node.
func calm(ctx context.Context, o options, out io.Writer) (err error) {
	stop, err := keepBusy(o.busy)
	if err != nil {
		return err
	}
	defer stop()
	c, err := newCampaign(ctx, o, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	before, led := len(c.logged(alarms)), len(c.logged(elections))
	end := time.Now().Add(time.Duration(o.calm * float64(time.Minute)))
	var worst time.Duration
	for i := 1; time.Now().Before(end) && ctx.Err() == nil; i++ {
		select {
		case <-ctx.Done():
		case <-time.After(judgeEvery):
		}
		until, late := c.monitor.CatchUp(context.Background())
		gap, judgement := c.judge(until)
		worst = max(worst, gap)
		err = errors.Join(err, late, c.heed(judgement))
		if i%tellEvery == 0 {
			err = errors.Join(err, c.heed(c.hearWitness()), c.ask())
			fmt.Fprintf(out, "%9.3fs %d alarms, %d elections, longest gap %.2f leases, %d questions on the wire\n",
				until.Seconds(), len(c.logged(alarms))-before, len(c.logged(elections))-led, float64(worst)/float64(o.lease), c.asked)
		}
		if err != nil {
			return c.explain(err)
		}
	}
	if err := c.heed(c.hearWitness()); err != nil {
		return c.explain(err)
	}
	heard := c.logged(alarms)[before:]
	fmt.Fprintf(out, "%v with %d busy processes: %d alarms, %d elections, longest gap %.2f leases, %d questions on the wire; this machine stalled %d times for %v or more\n%s\n",
		c.monitor.Known().Round(time.Second), o.busy, len(heard), len(c.logged(elections))-led, float64(worst)/float64(o.lease), c.asked,
		len(c.pulse.within(openings.Interval{To: openings.Never})), late, strings.Join(heard[:min(len(heard), shown)], "\n"))
	if len(heard) > 0 || worst > 0 {
		return fmt.Errorf("%w: nothing was broken", errJudged)
	}
	return nil
}

// logged are the lines of all agents' logs with one of the texts.
func (c *campaign) logged(texts []string) []string {
	var all []string
	for _, n := range c.Nodes {
		for line := range strings.Lines(n.Log()) {
			for _, a := range texts {
				if strings.Contains(line, a) {
					all = append(all, n.Name+" "+strings.TrimSpace(line))
				}
			}
		}
	}
	return all
}

// keepBusy starts processes that compute for ever, each in ordinary priority.
func keepBusy(n int) (stop func(), err error) {
	var all []*exec.Cmd
	stop = func() {
		for _, cmd := range all {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	for range n {
		cmd := exec.Command("sh", "-c", "while :; do :; done")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			stop()
			return nil, fmt.Errorf("start a busy process: %w", err)
		}
		all = append(all, cmd)
	}
	return stop, nil
}
