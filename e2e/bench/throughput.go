package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"earshot/e2e/lab"
	"earshot/hashmode"
)

const (
	rounds      = 7
	connections = 64
	warmup      = 200 * time.Millisecond
	span        = time.Second
)

func throughputPart() part {
	return part{
		name:    "throughput",
		doc:     "requests/s through the shared address, to one node and through HAProxy",
		prepare: needServers,
		run:     measureThroughput,
	}
}

// way is a way from the client to a server.
type way struct {
	name   string
	target netip.AddrPort
}

// The ways by name; all are compared with these two.
const (
	wayShared  = "shared address"
	wayDirect  = "direct to a node"
	wayHAProxy = "through HAProxy"
)

func measureThroughput(ctx context.Context, r *rig) (t table, err error) {
	c, err := r.cluster(hashmode.SourceIPSourcePort, 2, "tcp/80")
	if err != nil {
		return table{}, err
	}
	defer c.closeWith(&err)
	server, err := c.serve(ctx)
	if err != nil {
		return table{}, err
	}
	if _, err := c.form(ctx); err != nil {
		return table{}, err
	}
	ways := []way{
		{wayDirect, netip.AddrPortFrom(c.Nodes[0].Port.Addr, 80)},
		{wayShared, netip.AddrPortFrom(shared, 80)},
	}
	notes := []string{
		fmt.Sprintf("Median of %d interleaved rounds of %v, %d connections at a time; ratios are medians of the rounds' ratios.", rounds, span, connections),
		"Web server on every node: " + server + ". Client, nodes and balancer share this machine's cores.",
	}
	host := c.Clients[1]
	switch err := c.balance(ctx, host, r.dir); {
	case errors.Is(err, errNoBalancer):
		notes = append(notes, "SKIPPED: HAProxy is not installed and could not be; no comparison with it.")
	case err != nil:
		return table{}, err
	default:
		notes = append(notes, "HAProxy keeps its own connections to the nodes, also when clients close theirs: its best case.")
		ways = append(ways, way{wayHAProxy, netip.AddrPortFrom(host.Port.Addr, 80)})
	}
	all, err := compare(ctx, c.Clients[0], ways)
	if err != nil {
		return table{}, err
	}
	t = throughputTable(ways, all)
	t.Notes = append(notes, t.Notes...)
	return t, nil
}

// results are the rounds' answers by the kind of connection and the way.
type results map[bool]map[string][]answers

// compare runs the rounds. Each begins with another way.
func compare(ctx context.Context, client *lab.Client, ways []way) (results, error) {
	all := results{true: {}, false: {}}
	for round := range rounds {
		for _, keepalive := range []bool{true, false} {
			for i := range ways {
				w := ways[(i+round)%len(ways)]
				a, err := askBy(ctx, client, w, keepalive)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", w.name, err)
				}
				all[keepalive][w.name] = append(all[keepalive][w.name], a)
			}
		}
	}
	return all, nil
}

// askBy runs the load client once.
func askBy(ctx context.Context, client *lab.Client, w way, keepalive bool) (answers, error) {
	var a answers
	text, err := json.Marshal(order{
		Target: w.target, Sources: client.SourceList(connections), Keepalive: keepalive, Warmup: warmup, Span: span,
	})
	if err != nil {
		return a, err
	}
	r, err := client.Run(ctx, lab.Command{Role: roleAsk, Stdin: bytes.NewReader(text)})
	if err != nil {
		return a, err
	}
	if r.Code != 0 {
		return a, fmt.Errorf("load client: exit status %d: %s", r.Code, r.Stderr)
	}
	if err := json.Unmarshal([]byte(r.Stdout), &a); err != nil {
		return a, err
	}
	if a.Requests == 0 {
		return a, fmt.Errorf("no request was answered: %s", a.Error)
	}
	return a, nil
}

// perSecond are the rounds' requests per second.
func perSecond(rounds []answers) []float64 {
	var rates []float64
	for _, a := range rounds {
		rates = append(rates, float64(a.Requests)/a.Span.Seconds())
	}
	return rates
}

// ratio is the median of the rounds' ratios; missing without the other.
func ratio(a, b []float64) figure {
	if len(a) != len(b) {
		return missing()
	}
	var ratios []float64
	for i := range a {
		ratios = append(ratios, a[i]/b[i])
	}
	return figure(median(ratios))
}

func throughputTable(ways []way, all results) table {
	t := table{Columns: []column{
		{Name: "÷ direct", digits: 2}, {Name: "÷ HAProxy", digits: 2},
		{Name: "requests/s"}, {Name: "min"}, {Name: "max"},
		{Name: "p50", Unit: "ms", digits: 2}, {Name: "p99", Unit: "ms", digits: 2}, {Name: "failed"},
	}}
	for _, keepalive := range []bool{true, false} {
		kind := map[bool]string{true: "keepalive", false: "closing"}[keepalive]
		direct, haproxy := perSecond(all[keepalive][wayDirect]), perSecond(all[keepalive][wayHAProxy])
		for _, w := range ways {
			list := all[keepalive][w.name]
			rates := perSecond(list)
			values := []figure{
				ratio(rates, direct), ratio(rates, haproxy),
				figure(median(rates)), figure(slices.Min(rates)), figure(slices.Max(rates)),
			}
			t.Rows = append(t.Rows, row{
				Name: kind + ", " + w.name, Samples: rates, Values: append(values, latencies(list)...),
			})
			t.Notes = append(t.Notes, oddities(kind+", "+w.name, list)...)
		}
		t.Notes = append(t.Notes, fmt.Sprintf("%s, %s: answered by %s.", kind, wayShared, spread(all[keepalive][wayShared])))
	}
	return t
}

// latencies are the medians of the rounds' quantiles, and the failures.
func latencies(list []answers) []figure {
	var p50, p99 []float64
	failed := 0
	for _, a := range list {
		p50, p99 = append(p50, milliseconds(a.P50)), append(p99, milliseconds(a.P99))
		failed += a.Failed
	}
	return []figure{figure(median(p50)), figure(median(p99)), figure(failed)}
}

// oddities are notes about failures.
func oddities(name string, list []answers) []string {
	for _, a := range list {
		if a.Failed > 0 {
			return []string{name + " had failures, such as: " + a.Error}
		}
	}
	return nil
}

// spread says who answered what share.
func spread(list []answers) string {
	total, nodes := 0, map[string]int{}
	for _, a := range list {
		total += a.Requests
		for node, n := range a.Nodes {
			nodes[node] += n
		}
	}
	var parts []string
	for _, node := range slices.Sorted(maps.Keys(nodes)) {
		parts = append(parts, fmt.Sprintf("%s %.0f %%", node, 100*float64(nodes[node])/float64(total)))
	}
	return strings.Join(parts, ", ")
}
