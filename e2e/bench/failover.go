package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"time"

	"earshot/e2e/lab"
	"earshot/e2e/load"

	"golang.org/x/sys/unix"
)

const (
	probed = 64 // clients whose outage is measured: of the node that fails
	// crowd are the clients, of all nodes, that ask once a second each.
	crowd = 300
	// noticeable is an answer that a client has waited for.
	noticeable = 250 * time.Millisecond
	// defaultRuns is how often each thing fails; failoverLimit is for one run of all.
	defaultRuns   = 30
	failoverLimit = 90 * time.Second
	// settleLimit is for everything to be as it was.
	settleLimit = 30 * time.Second
)

func failoverPart() part {
	return part{
		name:    "failover",
		doc:     "from a power loss until the clients are answered again",
		prepare: needKeepalived,
		run:     measureFailover,
		limit:   func(o options) time.Duration { return time.Duration(o.runs+1) * failoverLimit },
	}
}

// needKeepalived installs keepalived if it is missing and this user may.
func needKeepalived(log io.Writer) {
	if err := need(log, keepalived); err != nil {
		fmt.Fprintf(log, "bench: WARNING: KEEPALIVED IS MISSING, NOTHING WILL BE COMPARED WITH IT: %v\n", err)
	}
}

// site is what loses power: a cluster of some kind, with a client.
type site interface {
	// victim chooses the node that is to fail, and clients of it.
	victim(ctx context.Context, leader bool) (*lab.Node, []netip.Addr, error)
	// kill ends what runs on a node whose cable is out; forget has its kernel forget.
	kill(n *lab.Node) error
	forget(n *lab.Node) error
	// restore boots the node; settle waits until it takes part again.
	restore(n *lab.Node) error
	settle(ctx context.Context) error
	client() *lab.Client
}

// loss is what one power loss did.
type loss struct {
	outage  time.Duration // until the last of the node's clients was answered
	noticed float64       // share of all clients
}

// losses of one kind, and how they are told.
type losses struct {
	name   string
	unit   time.Duration // the lease or the advert interval
	median float64       // goals, in units; 0: none
	most   float64
	list   []loss
}

// chooseVictim waits until all is well, chooses who fails and makes sure that its
// clients are answered. On a busy machine that can take more than one attempt.
func chooseVictim(ctx context.Context, s site, p *outage, leader bool) (n *lab.Node, clients []netip.Addr, err error) {
	err = lab.Poll(ctx, 2*settleLimit, func() error {
		err := s.settle(ctx)
		if err == nil {
			n, clients, err = s.victim(ctx, leader)
		}
		if err == nil {
			_, err = p.until(ctx, clients, time.Now())
		}
		return err
	})
	return n, clients, err
}

// fail has a node lose power and watches its clients.
func fail(ctx context.Context, s site, p *outage, leader bool) (l loss, err error) {
	n, clients, err := chooseVictim(ctx, s, p, leader)
	if err != nil {
		return l, fmt.Errorf("before the power loss: %w", err)
	}
	run, err := load.Start(s.client().Namespace, load.Plan{
		Kind: load.HTTP, Target: netip.AddrPortFrom(shared, 80), Sources: s.client().SourceList(crowd),
		Rate: crowd, Timeout: 2 * outageLimit,
	})
	if err != nil {
		return l, err
	}
	if err := run.Await(crowd, settleLimit); err != nil {
		return l, err
	}
	began := time.Now()
	if err := n.Port.Unplug(); err != nil {
		return l, err
	}
	killed := make(chan error, 1)
	go func() { killed <- s.kill(n) }()
	l.outage, err = p.until(ctx, clients, began)
	if err := errors.Join(err, <-killed); err != nil {
		return l, err
	}
	// Whoever was asked before it was over has asked again after it.
	if err := run.AwaitMore(crowd, settleLimit); err != nil {
		return l, err
	}
	records, err := run.Stop()
	l.noticed = noticed(records, began)
	return l, errors.Join(err, s.forget(n), n.Port.Replug(), s.restore(n))
}

// noticed is the share of clients that had a request fail or wait which was not
// over at a moment.
func noticed(records load.Records, since time.Time) float64 {
	all, hurt := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for _, r := range records {
		all[r.Client.Addr()] = true
		if r.Start.Add(r.Latency).After(since) && (r.Failure != "" || r.Latency > noticeable) {
			hurt[r.Client.Addr()] = true
		}
	}
	return float64(len(hurt)) / float64(max(len(all), 1))
}

func measureFailover(ctx context.Context, r *rig) (table, error) {
	var all []losses
	for _, l := range []time.Duration{300 * time.Millisecond, 120 * time.Millisecond} {
		list, err := r.failEarshot(ctx, l)
		if err != nil {
			return table{}, fmt.Errorf("lease %v: %w", l, err)
		}
		all = append(all, list...)
	}
	notes := []string{}
	for _, advert := range []time.Duration{time.Second, 100 * time.Millisecond} {
		list, err := r.failKeepalived(ctx, advert)
		if errors.Is(err, errNoKeepalived) {
			notes = append(notes, "SKIPPED: keepalived is not installed and could not be; no comparison with it.")
			break
		}
		if err != nil {
			return table{}, fmt.Errorf("keepalived, adverts every %v: %w", advert, err)
		}
		all = append(all, list)
	}
	t := failoverTable(all)
	t.Notes = append(t.Notes, notes...)
	return t, nil
}

// failOften has the same thing fail again and again.
func failOften(ctx context.Context, r *rig, s site, kinds []losses, leader func(kind int) bool) error {
	p, err := newOutage(s.client())
	if err != nil {
		return err
	}
	defer p.close()
	for i := range r.runs {
		for k := range kinds {
			l, err := fail(ctx, s, p, leader(k))
			if err != nil {
				return fmt.Errorf("%s, run %d: %w", kinds[k].name, i+1, err)
			}
			kinds[k].list = append(kinds[k].list, l)
			fmt.Fprintf(r.log, "bench: %s, run %d: %v, %.1f %% of the clients noticed\n",
				kinds[k].name, i+1, l.outage.Round(time.Millisecond), 100*l.noticed)
		}
	}
	return nil
}

// unreachable reports that the client's kernel knew at once that nobody is there.
func unreachable(err error) bool {
	return errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTDOWN)
}

// quantileOf is the smallest of some values that so large a part does not exceed.
func quantileOf(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(int(math.Ceil(q*float64(len(sorted))))-1, 0)]
}

// failoverTable has a row for each thing that failed.
func failoverTable(all []losses) table {
	t := table{
		Columns: []column{
			{Name: "median", Unit: "×", digits: 2}, {Name: "p90", Unit: "×", digits: 2}, {Name: "max", Unit: "×", digits: 2},
			{Name: "goal", Unit: "×", digits: 1}, {Name: "goal max", Unit: "×", digits: 1},
			{Name: "median", Unit: "ms"}, {Name: "p90", Unit: "ms"}, {Name: "max", Unit: "ms"},
			{Name: "clients that noticed, median", Unit: "%", digits: 1}, {Name: "runs"},
		},
		Notes: []string{
			fmt.Sprintf("× is multiples of the lease or the advert interval. An outage ends when the last of %d clients of the dead node is answered (keepalived: of one client, since all are the master's); each asks every %v by ICMP echo.", probed, probeEvery),
			fmt.Sprintf("Noticed: of %d clients of all nodes, each with one new HTTP connection a second, those with a request that failed or took more than %v. A lost SYN is sent again after 1 s.", crowd, noticeable),
			"Power loss: the cable first, then kill -9 of the agent (or keepalived) and the web server; what the kernel held is removed before the node boots.",
			fmt.Sprintf("Each run begins with a settled cluster whose agents have run for more than %d leases, so that the patience of a first start plays no part.", ripeLeases),
			"keepalived: three nodes, no preemption, the master fails; VRRP 2 with adverts of 1 s is its default, VRRP 3 with 100 ms its fast setting.",
		},
	}
	for _, l := range all {
		t.Rows = append(t.Rows, l.row())
	}
	return t
}

func (l losses) row() row {
	var ms, times, share []float64
	for _, one := range l.list {
		ms = append(ms, milliseconds(one.outage))
		times = append(times, float64(one.outage)/float64(l.unit))
		share = append(share, 100*one.noticed)
	}
	return row{Name: l.name, Samples: ms, Values: []figure{
		figure(median(times)), figure(quantileOf(times, 0.9)), figure(slices.Max(times)), goal(l.median), goal(l.most),
		figure(median(ms)), figure(quantileOf(ms, 0.9)), figure(slices.Max(ms)), figure(median(share)), figure(len(ms)),
	}}
}

// goal is a goal, or none.
func goal(times float64) figure {
	if times == 0 {
		return missing()
	}
	return figure(times)
}
