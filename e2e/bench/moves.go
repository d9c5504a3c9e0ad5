package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"time"

	"earshot/e2e/lab"
	"earshot/e2e/load"
	"earshot/e2e/openings"
	"earshot/nft"
)

const (
	moveRounds = 2   // how often each node goes and comes, each way
	moveNews   = 300 // new connections per second
	moveOpen   = 20  // open flows of each kind
	// moveWindow is what counts as "while buckets move", from each command on.
	moveWindow = time.Second
	moveLate   = 200 * time.Millisecond
	moveLimit  = 30 * time.Second
	movesLease = time.Second
	talkPort   = 22
	echoPort   = 7000
)

func movesPart() part {
	return part{
		name:    "moves",
		doc:     "what clients notice while each node goes and comes back",
		prepare: needBalancer,
		run:     measureMoves,
		limit:   func(options) time.Duration { return 4 * time.Minute },
	}
}

func needBalancer(log io.Writer) {
	if err := need(log, "haproxy"); err != nil {
		fmt.Fprintf(log, "bench: WARNING: HAPROXY IS MISSING, NOTHING WILL BE COMPARED WITH IT: %v\n", err)
	}
}

// A mover is a site whose nodes can go and come.
type mover interface {
	start(context.Context, *lab.Lab) error
	// target is where clients ask.
	target() netip.Addr
	// move takes a node out, or brings it back, and returns when that is done.
	move(ctx context.Context, node int, in bool) error
	// datagrams reports whether UDP is served, too.
	datagrams() bool
	close() error
}

// movesCrowd is what goes on meanwhile: by kind, and the new connections apart.
type movesCrowd struct {
	open  map[string]*load.Run
	flows *load.Run // UDP; nil without
	news  *load.Run
}

// harm is the figures of one way.
type harm struct {
	name                               string
	opened, broken, refused, reset     int // TCP: new ones; open ones that broke; new ones that failed
	timeouts, late, again, twice       int
	flows, flowsMoved, unanswered, udp int // UDP
	waits                              []float64
	hasUDP                             bool
	gaps, unheard                      []float64 // of each bucket that moved, in ms
	precision                          string
	why                                []string // what was answered twice
}

func measureMoves(ctx context.Context, r *rig) (table, error) {
	notes := []string{
		fmt.Sprintf("Each of %d nodes goes and comes back %d times, while %d new connections a second are opened and %d flows of each kind are open: busy and idle HTTP, WebSocket, interactive, download, half-closed; UDP request and response.", nodes, moveRounds, moveNews, moveOpen),
		fmt.Sprintf("Wait: of new connections begun within %v of a command, from the SYN to the whole answer. A SYN that arrives between the release of its bucket and the take waits for as long as is left of that gap, so that the largest bounds the gap from above.", moveWindow),
		fmt.Sprintf("Release to take, by the kernels' own tellings of their sets, of every bucket that moved: from the former owner's closing it until the new owner opens flows in it without a question (a lease, %v, in which it asks about each, and what comes before that), and for how much of that nobody even held what came. Below zero: both were open.", movesLease),
		"At once: the same rules, servers and hash without agents; the sets of buckets are switched on one node after the other, as CLUSTERIP and Pacemaker's IPaddr2 do. No drain, nobody is asked.",
		"HAProxy: one more host in front, TCP mode, `set server … state drain` and `ready`. It has no UDP. It is a single point, and its own failure is not measured here.",
		"Again: SYNs that the client had to send again; twice: questions answered by two nodes, or two SYN-ACKs that differ. Both as seen on the client's wire.",
	}
	ways := []struct {
		name string
		make func() (mover, error)
	}{
		{"Earshot, out and in", func() (mover, error) { return &earshotMover{}, nil }},
		{"at once, as CLUSTERIP", func() (mover, error) { return &switchMover{}, nil }},
		{"HAProxy, drain and ready", newProxyMover},
	}
	var all []harm
	for _, w := range ways {
		m, err := w.make()
		if errors.Is(err, errNoBalancer) {
			notes = append(notes, "SKIPPED: HAProxy is not installed and could not be; no comparison with it.")
			continue
		}
		if err != nil {
			return table{}, err
		}
		n, err := r.moveAll(ctx, m)
		if err != nil {
			return table{}, fmt.Errorf("%s: %w", w.name, err)
		}
		n.name = w.name
		all = append(all, n)
		fmt.Fprintf(r.log, "bench: %s: %s; %s\n", w.name, n.brief(), n.precision)
		for _, why := range n.why[:min(len(n.why), 5)] {
			fmt.Fprintf(r.log, "bench: answered twice: %s\n", why)
		}
	}
	t := movesTable(all)
	t.Notes = notes
	return t, nil
}

// moveAll measures one way.
func (r *rig) moveAll(ctx context.Context, m mover) (n harm, err error) {
	l, err := r.movesLab()
	if err != nil {
		return n, err
	}
	defer func() { err = errors.Join(err, m.close(), l.Close()) }()
	for _, node := range l.Nodes {
		s := load.Service{Name: node.Name, HTTP: []string{":80"}, UDP: []string{":7000"}, Talk: []string{":22"}}
		if _, err := load.Serve(node.Namespace, s); err != nil {
			return n, err
		}
	}
	jiffy, err := nft.Jiffy()
	if err != nil {
		return n, err
	}
	kernels, err := openings.Listen(l.Nodes, jiffy)
	if err != nil {
		return n, err
	}
	defer kernels.Close()
	if err := m.start(ctx, l); err != nil {
		return n, err
	}
	wire, err := load.Watch(l, l.Clients[0])
	if err != nil {
		return n, err
	}
	defer func() { err = errors.Join(err, wire.Close()) }()
	c, err := crowdOf(l.Clients[0], m)
	if err != nil {
		return n, err
	}
	begun, err := kernels.CatchUp(ctx)
	if err != nil {
		return n, err
	}
	var commands []time.Time
	for i := range moveRounds * nodes * 2 {
		commands = append(commands, time.Now())
		if err := m.move(ctx, i/2%nodes, i%2 == 1); err != nil {
			return n, err
		}
		if err := c.news.AwaitMore(moveNews, moveLimit); err != nil {
			return n, err
		}
	}
	n, err = c.disperse(wire, commands)
	if err != nil {
		return n, err
	}
	return n, n.handoffs(ctx, kernels, begun)
}

// handoffs enters how long buckets were without a node between the two that
// they moved from and to.
func (n *harm) handoffs(ctx context.Context, kernels *openings.Monitor, since openings.Moment) error {
	if _, err := kernels.CatchUp(ctx); err != nil {
		return err
	}
	r, places := kernels.Copy()
	for _, h := range r.Handoffs(places) {
		if h.At >= since {
			n.gaps, n.unheard = append(n.gaps, milliseconds(h.Gap)), append(n.unheard, milliseconds(h.Unheard))
		}
	}
	n.precision = kernels.Precision()
	return nil
}

// crowdOf starts the crowd.
func crowdOf(client *lab.Client, m mover) (movesCrowd, error) {
	c := movesCrowd{open: map[string]*load.Run{}}
	start := func(p load.Plan, port uint16) (*load.Run, error) {
		p.Target, p.Sources, p.Timeout = netip.AddrPortFrom(m.target(), port), client.SourceList(1000), 10*time.Second
		if p.Kind != load.HTTP {
			p.Rate, p.Count = 200, moveOpen
		}
		run, err := load.Start(client.Namespace, p)
		if err == nil && p.Count > 0 {
			err = run.Await(p.Count, moveLimit)
		}
		return run, err
	}
	var err error
	for name, p := range map[string]load.Plan{
		"busy":      {Kind: load.Hold},
		"idle":      {Kind: load.Hold, Interval: time.Hour},
		"WebSocket": {Kind: load.WebSocket, Interval: 300 * time.Millisecond},
	} {
		if c.open[name], err = start(p, 80); err != nil {
			return c, fmt.Errorf("%s: %w", name, err)
		}
	}
	for name, p := range map[string]load.Plan{
		"interactive": {Kind: load.Keys, Interval: 150 * time.Millisecond},
		"download":    {Kind: load.Download, Bytes: 50_000},
		"half-closed": {Kind: load.HalfClosed},
	} {
		if c.open[name], err = start(p, talkPort); err != nil {
			return c, fmt.Errorf("%s: %w", name, err)
		}
	}
	if m.datagrams() {
		if c.flows, err = start(load.Plan{Kind: load.Flow}, echoPort); err != nil {
			return c, err
		}
	}
	if c.news, err = start(load.Plan{Kind: load.HTTP, Rate: moveNews}, 80); err != nil {
		return c, err
	}
	return c, c.news.Await(moveNews, moveLimit)
}

// disperse ends the crowd and counts.
func (c movesCrowd) disperse(wire *load.Witness, commands []time.Time) (n harm, err error) {
	for _, kind := range slices.Sorted(maps.Keys(c.open)) {
		records, err := c.open[kind].Stop()
		if err != nil {
			return n, err
		}
		n.broken += len(records.Failed())
	}
	if c.flows != nil {
		records, err := c.flows.Stop()
		if err != nil {
			return n, err
		}
		n.hasUDP, n.flows, n.flowsMoved = true, moveOpen, len(records.Moved())
		v, err := wire.Verdict(load.Datagram)
		if err != nil {
			return n, err
		}
		n.udp, n.unanswered, n.why = v.Asked, v.Unanswered, v.Twice
	}
	records, err := c.news.Stop()
	if err != nil {
		return n, err
	}
	failures := records.Summary().Failures
	n.opened, n.late = len(records), len(records.Slower(moveLate))
	n.refused, n.reset, n.timeouts = failures[load.Refused], failures[load.Reset], failures[load.Timeout]+failures[load.Other]
	for _, r := range records {
		if slices.ContainsFunc(commands, func(at time.Time) bool { return r.Start.After(at) && r.Start.Before(at.Add(moveWindow)) }) {
			n.waits = append(n.waits, milliseconds(r.Latency))
		}
	}
	v, err := wire.Verdict(load.TCP)
	n.again, n.why = len(v.Repeated), append(n.why, v.Twice...)
	n.twice = len(n.why)
	return n, err
}

func (n harm) brief() string {
	return fmt.Sprintf("%d opened, %d refused, %d reset, %d open ones broken, %d UDP flows moved, %d answered twice",
		n.opened, n.refused, n.reset, n.broken, n.flowsMoved, n.twice)
}

func movesTable(all []harm) table {
	t := table{Columns: []column{
		{Name: "new TCP"}, {Name: "refused"}, {Name: "reset"}, {Name: "no answer"}, {Name: "SYN again"},
		{Name: fmt.Sprintf("> %d ms", moveLate.Milliseconds())}, {Name: "open TCP"}, {Name: "broken"},
		{Name: "UDP flows"}, {Name: "moved"}, {Name: "datagrams lost"}, {Name: "twice"},
		{Name: "wait p50", Unit: "ms", digits: 1}, {Name: "p99", Unit: "ms", digits: 1}, {Name: "max", Unit: "ms", digits: 1},
		{Name: "moves"}, {Name: "unheard p50", Unit: "ms", digits: 1}, {Name: "p99", Unit: "ms", digits: 1},
		{Name: "to open p50", Unit: "ms", digits: 1}, {Name: "p99", Unit: "ms", digits: 1},
		{Name: "p50", Unit: "leases", digits: 2}, {Name: "p99", Unit: "leases", digits: 2},
	}}
	for _, n := range all {
		flows, moved, lost := missing(), missing(), missing()
		if n.hasUDP {
			flows, moved, lost = figure(n.flows), figure(n.flowsMoved), figure(n.unanswered)
		}
		values := []figure{
			figure(n.opened), figure(n.refused), figure(n.reset), figure(n.timeouts), figure(n.again), figure(n.late),
			figure(6 * moveOpen), figure(n.broken), flows, moved, lost, figure(n.twice),
			figure(quantileOf(n.waits, 0.5)), figure(quantileOf(n.waits, 0.99)), figure(quantileOf(n.waits, 1)),
		}
		t.Rows = append(t.Rows, row{Name: n.name, Values: append(values, n.gapFigures()...)})
	}
	return t
}

// gapFigures are the columns about the gap between release and take; none
// where no bucket moves.
func (n harm) gapFigures() []figure {
	if len(n.gaps) == 0 {
		return slices.Repeat([]figure{missing()}, 7)
	}
	leases := milliseconds(movesLease)
	half, most := quantileOf(n.gaps, 0.5), quantileOf(n.gaps, 0.99)
	return []figure{
		figure(len(n.gaps)), figure(quantileOf(n.unheard, 0.5)), figure(quantileOf(n.unheard, 0.99)),
		figure(half), figure(most), figure(half / leases), figure(most / leases),
	}
}
