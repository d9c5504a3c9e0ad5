package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"earshot/e2e/load"
	"earshot/e2e/openings"
	"earshot/nft"
)

const (
	webRate, echoRate = 120, 200 // questions per second
	sources           = 500
	// rotation is after how many faults the client starts anew: what it and the
	// witness remember grows.
	rotation = 25
	// shown is how much of a long list is printed.
	shown = 12
)

// errJudged is wrapped by what the judges find.
var errJudged = errors.New("the judges object")

// campaign is a cluster, faults, and judges.
type campaign struct {
	*field
	o       options
	rand    *rand.Rand
	out     io.Writer
	monitor *openings.Monitor
	pulse   *pulse
	tally   tallies

	witness   *load.Witness
	generator []*load.Run

	whole   openings.Moment     // the cluster was first whole
	judged  openings.Moment     // what ended before it has been judged
	excused []openings.Interval // in which buckets may be without a node
	history []string
	asked   int     // questions on the wire
	objects []error // what the judges found, if that does not end the campaign
}

// newCampaign builds everything and waits until the cluster is whole. Close it.
func newCampaign(ctx context.Context, o options, out io.Writer) (*campaign, error) {
	jiffy, err := nft.Jiffy()
	if err != nil {
		return nil, err
	}
	f, err := newField(o)
	if err != nil {
		return nil, err
	}
	c := &campaign{field: f, o: o, rand: rand.New(rand.NewPCG(o.seed, 0)), out: out, tally: tallies{}}
	if c.monitor, err = openings.Listen(f.Nodes, jiffy); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	c.pulse = feel(c.monitor.Now)
	if err = c.begin(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, f.lastWords()), c.close())
	}
	return c, nil
}

// begin starts the agents and the client.
func (c *campaign) begin(ctx context.Context) error {
	if err := c.StartAll(); err != nil {
		return err
	}
	if err := c.awaitWhole(ctx); err != nil {
		return err
	}
	if err := c.ripen(ctx); err != nil {
		return err
	}
	var err error
	if c.whole, err = c.monitor.CatchUp(ctx); err != nil {
		return err
	}
	c.judged = c.whole
	return c.ask()
}

// startGrace is for how many leases after its start a leader gives away no
// bucket of nodes that it has not heard (coordinator/DESIGN.md).
const startGrace = 10

// ripen waits until the agents, which all have just started, judge each other.
func (c *campaign) ripen(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(startGrace * c.o.lease):
		return nil
	}
}

// ask starts the witness and then the client.
func (c *campaign) ask() error {
	client := c.Clients[0]
	var err error
	if c.witness, err = load.Watch(c.Lab, client); err != nil {
		return err
	}
	for _, p := range []load.Plan{
		{Kind: load.HTTP, Target: netip.AddrPortFrom(shared, 80), Rate: webRate},
		{Kind: load.UDP, Target: netip.AddrPortFrom(shared, 7000), Rate: echoRate},
	} {
		p.Sources, p.Timeout = client.SourceList(sources), 2*time.Second
		run, err := load.Start(client.Namespace, p)
		if err != nil {
			return err
		}
		c.generator = append(c.generator, run)
	}
	return nil
}

// hearWitness stops the client and hears what the witness has seen.
func (c *campaign) hearWitness() error {
	if c.witness == nil {
		return nil
	}
	var errs []error
	for _, run := range c.generator {
		_, err := run.Stop()
		errs = append(errs, err)
	}
	var twice []string
	for _, proto := range []load.Proto{load.TCP, load.Datagram} {
		v, err := c.witness.Verdict(proto)
		if errs = append(errs, err); err == nil && len(v.Nodes) == 0 {
			errs = append(errs, fmt.Errorf("no %s question was answered", proto))
		}
		twice = append(twice, v.Twice...)
		c.asked += v.Asked
	}
	errs = append(errs, c.witness.Close())
	c.witness, c.generator = nil, nil
	if len(twice) > 0 {
		errs = append(errs, fmt.Errorf("%w: on the wire, %d questions were answered twice:\n  %s", errJudged,
			len(twice), strings.Join(twice[:min(len(twice), shown)], "\n  ")))
	}
	return errors.Join(errs...)
}

// run carries out the faults, each chosen at random, until the count is reached
// or ctx ends. Its error says what is wrong and how to see it again.
func (c *campaign) run(ctx context.Context, count int) (err error) {
	all, err := choose(faults(), c.o.only)
	if err != nil {
		return err
	}
	for i := 0; (count == 0 || i < count) && ctx.Err() == nil && err == nil; i++ {
		if i > 0 && i%rotation == 0 {
			if err = c.heed(c.hearWitness()); err == nil {
				err = c.ask()
			}
		}
		if err == nil {
			err = c.heed(c.strike(c.pick(all)))
		}
	}
	err = errors.Join(err, c.heed(c.hearWitness()))
	fmt.Fprintf(c.out, "\n%s\n%d questions on the client's wire; this machine stalled %d times for %v or more\n%s",
		c.monitor.Precision(), c.asked, len(c.pulse.within(openings.Interval{To: openings.Never})), late, c.tally)
	if err = errors.Join(append(c.objects, err)...); err != nil {
		return c.explain(err)
	}
	fmt.Fprintln(c.out, "the judges have no objection")
	return nil
}

// heed returns the error, unless it is an objection that is only to be kept.
func (c *campaign) heed(err error) error {
	if err == nil || !c.o.keep || !errors.Is(err, errJudged) {
		return err
	}
	fmt.Fprintf(c.out, "     %v\n", err)
	c.objects = append(c.objects, fmt.Errorf("fault %d: %w", len(c.history), err))
	return nil
}

// pick chooses by weight.
func (c *campaign) pick(all []fault) fault {
	total := 0
	for _, f := range all {
		total += f.weight
	}
	at := c.rand.IntN(total)
	return all[slices.IndexFunc(all, func(f fault) bool {
		at -= f.weight
		return at < 0
	})]
}

// strike carries out one fault, waits until the cluster is whole and judges.
// A fault that has begun is carried through.
func (c *campaign) strike(f fault) error {
	ctx := context.Background()
	a := &attack{campaign: c, ctx: ctx}
	began := c.monitor.Now()
	if err := f.strike(a); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	mended := c.monitor.Now()
	err := c.awaitWhole(ctx)
	if f.restarts {
		err = errors.Join(err, c.ripen(ctx))
	}
	whole, late := c.monitor.CatchUp(ctx)
	if f.loses {
		c.excused = append(c.excused, openings.Interval{From: began, To: whole})
	}
	gap, judgement := c.judge(whole)
	line := fmt.Sprintf("%9.3fs %s: %s; whole %.2f s after; longest gap %.2f leases",
		began.Seconds(), f.name, strings.Join(a.said, " "), (whole - mended).Seconds(), float64(gap)/float64(c.o.lease))
	c.history = append(c.history, line)
	fmt.Fprintf(c.out, "%4d %s\n", len(c.history), line)
	c.tally.add(f.name, gap, whole-mended)
	return errors.Join(err, late, judgement)
}

// judge judges what ended since the last time, and returns the longest gap.
func (c *campaign) judge(until openings.Moment) (gap time.Duration, err error) {
	r, places := c.monitor.Copy()
	var errs []error
	var around openings.Interval
	object := func(f openings.Finding, why string) {
		around = f.Interval
		errs = append(errs, fmt.Errorf("%w: %v%s", errJudged, f, why))
	}
	for _, f := range c.fresh(r.Overlaps(places), until) {
		object(f, "")
	}
	gaps := c.fresh(r.Gaps(places, openings.Interval{From: max(c.whole, until-memory), To: until}, c.excused, 3*c.o.lease), until)
	for _, f := range openings.Longer(gaps, c.o.bound()) {
		stalls := c.pulse.within(openings.Interval{From: f.From - c.o.lease, To: f.To})
		if most := allowance(stalls, c.o.lease, c.o.bound()); f.Length() > most {
			object(f, fmt.Sprintf("; it may be %v, with %d stalls of this machine", most, len(stalls)))
		}
	}
	c.judged = until
	c.monitor.Forget(until - memory)
	if len(errs) > 0 {
		errs = append(errs[:min(len(errs), shown)], errors.New("meanwhile the agents said:\n"+c.chronicle(around)))
	}
	return openings.Longest(gaps), errors.Join(errs...)
}

// memory is how far back what is still going on may have begun.
const memory = time.Minute

// fresh are the findings that ended since the last judgement. A gap that lasts
// until now is judged the next time.
func (c *campaign) fresh(list []openings.Finding, now openings.Moment) []openings.Finding {
	return slices.DeleteFunc(slices.Clone(list), func(f openings.Finding) bool { return f.To < c.judged || f.To == now })
}

// explain adds to an error how it came to it.
func (c *campaign) explain(err error) error {
	h := c.history[max(0, len(c.history)-3*shown):]
	return fmt.Errorf("%w\nseed %d; %s\nhistory:\n  %s\n%s", err, c.o.seed, c.monitor.Precision(), strings.Join(h, "\n  "), c.lastWords())
}

// close ends everything.
func (c *campaign) close() error {
	c.pulse.close()
	c.monitor.Close()
	return c.Close()
}
