package main

import (
	"fmt"
	"io"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"earshot/coordinator"
	"earshot/e2e/lab"
	"earshot/e2e/load"
	"earshot/hashmode"
)

// Noticed is by client, not by request: who failed or waited, and only what was
// not over before the power loss.
func TestNoticed(t *testing.T) {
	cut := time.Now()
	asked := func(client byte, after, latency time.Duration, failure load.Failure) load.Record {
		return load.Record{
			Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, client}), 1),
			Start:  cut.Add(after), Latency: latency, Failure: failure,
		}
	}
	records := load.Records{
		asked(1, 0, time.Millisecond, ""),
		asked(2, 0, time.Second, ""),
		asked(2, 0, time.Second, ""),
		asked(3, -10*time.Millisecond, 20*time.Millisecond, load.Reset),
		asked(4, -time.Second, 500*time.Millisecond, ""), // over before
	}
	if got := noticed(records, cut); got != 0.5 {
		t.Errorf("%v of the clients noticed", got)
	}
	if got := noticed(nil, cut); got != 0 {
		t.Errorf("of no clients %v noticed", got)
	}
}

// An outage ends with the last client's first answer; answers to earlier rounds,
// to strangers and repeated ones do not count.
func TestOutageNotes(t *testing.T) {
	one, two, stranger := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	p := &outage{}
	p.reset([]netip.Addr{one, two})
	id, due := p.due()
	if len(due) != 2 {
		t.Fatalf("due %v", due)
	}
	at := time.Now()
	p.note(id-1, one, at)
	p.note(id, stranger, at)
	p.note(id, one, at)
	p.note(id, one, at.Add(time.Hour))
	if _, due := p.due(); p.waiting() != 1 || len(due) != 1 || due[0] != two {
		t.Errorf("due %v", due)
	}
	if p.note(id, two, at.Add(time.Second)); p.waiting() != 0 || !p.last().Equal(at.Add(time.Second)) {
		t.Errorf("%d wait, last %v", p.waiting(), p.last().Sub(at))
	}
}

// The probed clients are the node's, each in a bucket of its own.
func TestClientsOf(t *testing.T) {
	c := &lab.Client{Sources: netip.MustParsePrefix("10.9.0.0/16")}
	v := coordinator.ServiceStatus{Hash: string(hashmode.SourceIP), Buckets: 128, Seed: 7, Nodes: []coordinator.ShareStatus{
		{Name: "n1", Own: "0-99"}, {Name: "n2", Own: "100-127"},
	}}
	clients, err := clientsOf(c, v, "n1")
	if err != nil || len(clients) != probed {
		t.Fatalf("%d clients, %v", len(clients), err)
	}
	spec := hashmode.Spec{Mode: hashmode.SourceIP, Buckets: 128, Seed: 7}
	seen := map[hashmode.Bucket]bool{}
	for _, client := range clients {
		b := spec.Bucket(netip.AddrPortFrom(client, 0), 0)
		if b > 99 || seen[b] {
			t.Errorf("%s is in bucket %d", client, b)
		}
		seen[b] = true
	}
	if _, err := clientsOf(c, v, "n2"); err == nil {
		t.Error("28 buckets have 64 clients")
	}
}

// A row tells multiples of the unit beside the goals; keepalived has none.
func TestFailoverTable(t *testing.T) {
	l := losses{name: "a node", unit: 100 * time.Millisecond, median: 1.2}
	for i := range 10 {
		l.list = append(l.list, loss{outage: time.Duration(i+1) * 10 * time.Millisecond, noticed: 0.25})
	}
	table := failoverTable([]losses{l, {name: "keepalived", unit: time.Second, list: l.list}})
	want := []figure{0.55, 0.9, 1, 1.2, missing(), 55, 90, 100, 25, 10}
	if got := table.Rows[0].Values; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	if v := table.Rows[1].Values; !math.IsNaN(float64(v[3])) || len(table.lines()) != 3 {
		t.Errorf("%v", v)
	}
}

// The time for all parts grows with the runs of this one.
func TestRuns(t *testing.T) {
	few, err := parse([]string{"-runs", "2", "failover"}, io.Discard)
	if err != nil || few.runs != 2 || few.limit() != limit+3*failoverLimit {
		t.Errorf("%+v, %v", few, err)
	}
	if o, err := parse([]string{"idle"}, io.Discard); err != nil || o.limit() != limit {
		t.Errorf("%v, %v", o.limit(), err)
	}
	var usage strings.Builder
	if _, err := parse([]string{"-runs", "0"}, &usage); err == nil || !strings.Contains(usage.String(), "-runs") {
		t.Errorf("no runs taken: %v, %s", err, &usage)
	}
}
