package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"earshot/e2e/lab"
	"earshot/e2e/load"
	"earshot/hashmode"
)

// estate is what a node leaves that is killed: the buckets that it owned, or in
// which it might have had flows, from its death until others had taken them.
// What was opened there in that time is the node's own loss. Nothing else is.
type estate struct {
	of       string
	services []serviceStatus
	buckets  map[string]hashmode.Set // by service
	from, to time.Time
}

// kill kills a node and waits until it is judged dead and others have its
// buckets. The map stands still between the death of a leader and the next
// one's first plan, so that a look after the death misses nothing.
func (c *crowd) kill(n, operator *lab.Node) estate {
	c.t.Helper()
	e := estate{of: n.Name, buckets: map[string]hashmode.Set{}, from: time.Now()}
	c.must(n.Kill())
	looks := 0
	look := func(s status) {
		looks++
		c.must(e.note(s))
	}
	c.buried(n, operator, look)
	if looks < 2 {
		c.t.Fatalf("only one look at the map of the dead %s", n.Name)
	}
	// Every frame until now is in the books, so that nothing is entered later
	// than it came.
	_, err := c.wire.Questions(load.TCP)
	c.must(err)
	e.to = time.Now()
	for _, v := range e.services {
		c.t.Logf("%s left %d of %d buckets of %s for %v", e.of, e.buckets[v.Name].Len(), v.Buckets, v.Name, e.to.Sub(e.from))
	}
	return e
}

// note enters what is the node's by a map.
func (e *estate) note(s status) error {
	e.services = s.Services
	for _, v := range s.Services {
		for _, n := range v.Nodes {
			if n.Name != e.of {
				continue
			}
			for _, text := range []string{n.Own, n.Drain} { // waiting and inherited ones are its own
				set, err := hashmode.ParseSet(text, v.Buckets)
				if err != nil {
					return fmt.Errorf("service %s, node %s: %w", v.Name, n.Name, err)
				}
				e.buckets[v.Name] = e.buckets[v.Name].Union(set)
			}
		}
	}
	return nil
}

// bucket is where a flow belongs. The source's port does not choose it: that is
// not known of a flow that was not opened.
func (e estate) bucket(service string, client netip.AddrPort, port uint16) hashmode.Bucket {
	i := slices.IndexFunc(e.services, func(v serviceStatus) bool { return v.Name == service })
	return e.services[i].spec().Bucket(client, port)
}

// has reports whether a flow was the dead node's to open: in one of its buckets,
// and at a time when it was dead and nobody had the bucket.
func (e estate) has(service string, client netip.AddrPort, port uint16, asked, answered time.Time) bool {
	during := asked.Before(e.to) && (answered.IsZero() || answered.After(e.from))
	return during && e.buckets[service].Has(e.bucket(service, client, port))
}

// hasQuestion is has, of a question on the wire.
func (e estate) hasQuestion(service string, q load.Question) bool {
	return e.has(service, q.Client, q.Server.Port(), q.Asked, q.Answered)
}

// unharmedBut demands of all flows but those of the estate that nobody noticed
// anything: none was broken, refused or reset, no SYN had to be sent again, no
// flow changed its node and every datagram was answered.
func (p parting) unharmedBut(t *testing.T, e estate) {
	t.Helper()
	p.faithful(t, e.of)
	p.answered(t, e, load.TCP, "web")
	p.answered(t, e, load.Datagram, "echo")
	for what, port := range map[string]uint16{newTCP: webPort, newUDP: onceAPort} {
		service := map[string]string{newTCP: "web", newUDP: "echo"}[what]
		judged := slices.DeleteFunc(slices.Clone(p.records[what]), func(r load.Record) bool {
			return e.has(service, r.Client, port, r.Start, r.Start.Add(r.Latency))
		})
		noFailure(t, what+" of the living", judged)
		slow := judged.Slower(lateAfter)
		t.Logf("%s of the living: %d, %d later than %v, of these %d before the death; %v", what, len(judged), len(slow), lateAfter,
			len(slow)-len(slow.Since(e.from)), judged.Summary())
	}
}

// answered judges what was asked on the wire.
func (p parting) answered(t *testing.T, e estate, proto load.Proto, service string) {
	t.Helper()
	all, err := p.wire.Questions(proto)
	if err != nil {
		t.Fatal(err)
	}
	var again, unanswered []string
	judged, during, own := 0, 0, 0
	for _, q := range all {
		if e.hasQuestion(service, q) {
			own++
			continue
		}
		judged++
		if q.Asked.After(e.from) && q.Asked.Before(e.to) {
			during++
		}
		if proto == load.TCP && q.Times > 1 {
			again = append(again, p.tell(e, service, q))
		}
		if q.Answered.IsZero() {
			unanswered = append(unanswered, p.tell(e, service, q))
		}
	}
	t.Logf("%s: %d questions were the dead node's, %d not, %d of these while its buckets were nobody's; of these %d were sent again and %d not answered",
		proto, own, judged, during, len(again), len(unanswered))
	complain(t, fmt.Sprintf("%s of the living sent again", proto), again)
	complain(t, fmt.Sprintf("%s of the living not answered", proto), unanswered)
	if own == 0 || during == 0 {
		t.Errorf("%s: nothing was asked of the dead or of the living meanwhile: nothing is shown", proto)
	}
}

// tell says when and where a question was asked.
func (p parting) tell(e estate, service string, q load.Question) string {
	b := e.bucket(service, q.Client, q.Server.Port())
	return fmt.Sprintf("%v; %v after the death; bucket %d, the dead node's: %v",
		q, q.Asked.Sub(e.from).Round(time.Millisecond), b, e.buckets[service].Has(b))
}
