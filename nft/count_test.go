package nft

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/nftables"

	"earshot/hashmode"
	"earshot/nft/nfttest"
)

// countingNew has a service's new flows counted.
func countingNew(s Service) Service {
	s.CountNew = true
	return s
}

// counts are the counters of a service that are not zero.
func counts(t *testing.T, p *Plane, s Service) map[hashmode.Bucket]uint64 {
	t.Helper()
	all, err := p.NewFlows([]Service{s})
	must(t, err)
	if all[s.Name] == nil {
		t.Fatalf("service %s is not counted", s.Name)
	}
	maps.DeleteFunc(all[s.Name], func(_ hashmode.Bucket, n uint64) bool { return n == 0 })
	return all[s.Name]
}

func wantCounts(t *testing.T, when string, p *Plane, s Service, want map[hashmode.Bucket]uint64) {
	t.Helper()
	if got := counts(t, p, s); !maps.Equal(got, want) {
		t.Errorf("%s: counted %v, want %v", when, got, want)
	}
}

// bucketOf is the bucket of a connection of the client.
func bucketOf(s Service, c net.Conn) hashmode.Bucket {
	return s.Hash.Bucket(netip.MustParseAddrPort(c.LocalAddr().String()), 80)
}

// Connections that last no longer than a word are counted, each once, and
// datagrams by their flows, with an ordinary kernel and server.
func TestNewFlowsAreCounted(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		p := w.plane()
		if !p.counts {
			t.Fatal("this kernel cannot count")
		}
		service := countingNew(webOf(v6, all16(), hashmode.Set{}, hashmode.Set{}))
		leased(t, p, 1, service)
		target := netip.AddrPortFrom(service.Address, 80).String()
		w.echo(target)
		want := map[hashmode.Bucket]uint64{}
		for range 20 {
			c := w.dial("tcp", target)
			must(t, talk(c))
			must(t, c.Close())
			want[bucketOf(service, c)]++
		}
		for range 5 {
			c := w.dial("udp", target)
			for range 4 {
				must(t, talk(c))
			}
			want[bucketOf(service, c)]++
		}
		silent := w.dial("udp", target) // to conntrack, new still with every packet
		for range 3 {
			_, err := silent.Write([]byte(oneWay))
			must(t, err)
		}
		must(t, talk(silent)) // so that all of them have come
		want[bucketOf(service, silent)]++
		wantCounts(t, "all", p, service, want)
	})
}

// Only what the verdicts let in begins a flow: in own buckets and those taken
// over, but for other flows' segments, and in none that is given away or
// foreign.
func TestOnlyFlowsHereAreCounted(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		p := w.plane()
		service := countingNew(webOf(v6, buckets(0, 7), buckets(8, 9), buckets(10, 11)))
		leased(t, p, 1, service)
		w.echo(netip.AddrPortFrom(service.Address, 80).String()) // a SYN that is refused begins a flow each time
		o := w.observer()
		for b := range all16().All() {
			client := clientOfIP(v6, service.Hash, b, 0)
			o.passed(tcp(client, nfttest.SYN))
			o.passed(tcp(client, nfttest.SYN)) // sent again
			o.passed(udp(clientOfIP(v6, service.Hash, b, 1), 80))
			o.passed(tcp(clientOfIP(v6, service.Hash, b, 2), nfttest.ACK))
			o.passed(udp(clientOfIP(v6, service.Hash, b, 3), 81))                      // not the service's
			o.passed(tcp(clientOfIP(v6, service.Hash, b, 4), nfttest.SYN|nfttest.FIN)) // invalid
		}
		want := map[hashmode.Bucket]uint64{}
		for b := range buckets(0, 7).All() {
			want[b] = 3 // the ACK, too: it is answered
		}
		for b := range buckets(8, 9).All() {
			want[b] = 2
		}
		wantCounts(t, "each", p, service, want)
	})
}

// A held packet is counted when it is passed, and only then.
func TestHeldPacketsAreCountedWhenPassed(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	k := w.keep(p)
	service := countingNew(holding(web(hashmode.Set{}, hashmode.Set{}, hashmode.Set{})))
	leasedHold(t, p, service)
	o := w.observer()
	o.send(tcp(clientOf(service.Hash, 12, 0), nfttest.SYN))
	held := k.wait(1)
	wantCounts(t, "held", p, service, map[hashmode.Bucket]uint64{})
	k.decide(Pass, held...)
	wantCounts(t, "passed", p, service, map[hashmode.Bucket]uint64{12: 1})
	o.send(tcp(clientOf(service.Hash, 13, 0), nfttest.SYN))
	k.decide(Drop, k.wait(1)...)
	wantCounts(t, "dropped", p, service, map[hashmode.Bucket]uint64{12: 1})
}

// Counters stand through changes of the map, of other services and repairs,
// and what they count is nobody's interference. A bucket that comes back
// starts anew.
func TestCountersStand(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	service := countingNew(web(buckets(0, 7), hashmode.Set{}, hashmode.Set{}))
	leased(t, p, 1, service)
	o := w.observer()
	for b := range buckets(2, 3).All() {
		o.passed(udp(clientOf(service.Hash, b, 0), 80))
	}
	both := map[hashmode.Bucket]uint64{2: 1, 3: 1}
	wantCounts(t, "at first", p, service, both)
	apply := func(when string, index uint64, want map[hashmode.Bucket]uint64, services ...Service) {
		t.Helper()
		must(t, p.Apply(Ruleset{Index: index, Services: services}))
		must(t, p.Barrier()) // nothing is being closed any more
		w.mustHold(Ruleset{Index: index, Services: services})
		wantCounts(t, when, p, service, want)
		if n := p.Repairs(); n != 0 {
			t.Errorf("%s: %d repairs", when, n)
		}
	}
	taken := service
	taken.Own, taken.Inherit = buckets(0, 2), buckets(3, 4)
	apply("another map", 2, both, taken)
	p.Resync()
	apply("a look", 3, both, taken)
	apply("another service", 4, both, taken, other())
	p.Resync()
	apply("a service less", 5, both, service)
	gone := service
	gone.Own, gone.Drain = buckets(0, 2), buckets(3, 3)
	apply("a bucket given away", 6, map[hashmode.Bucket]uint64{2: 1}, gone)
	apply("and back", 7, map[hashmode.Bucket]uint64{2: 1}, service)
	uncounted := service
	uncounted.CountNew = false
	must(t, p.Apply(Ruleset{Index: 8, Services: []Service{uncounted}}))
	w.mustHold(Ruleset{Index: 8, Services: []Service{uncounted}})
	if all, err := p.NewFlows([]Service{service, uncounted}); err != nil || len(all) != 0 {
		t.Errorf("not counted: %v, %v", all, err)
	}
}

// Another process, after a restart of the agent, reads on.
func TestCountersOutliveTheProcess(t *testing.T) {
	w := newWorld(t)
	service := countingNew(web(buckets(0, 7), hashmode.Set{}, hashmode.Set{}))
	leased(t, w.plane(), 1, service)
	w.observer().passed(udp(clientOf(service.Hash, 3, 0), 80))
	p := w.plane()
	wantCounts(t, "before Apply", p, service, map[hashmode.Bucket]uint64{3: 1})
	must(t, p.Apply(Ruleset{Index: 1, Services: []Service{service}}))
	wantCounts(t, "after Apply", p, service, map[hashmode.Bucket]uint64{3: 1})
}

// Where somebody has removed the rules there is nothing to read, and no error;
// repaired, they count from zero.
func TestCountersAfterFlush(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	service := countingNew(web(buckets(0, 7), hashmode.Set{}, hashmode.Set{}))
	leased(t, p, 1, service)
	o := w.observer()
	o.passed(udp(clientOf(service.Hash, 3, 0), 80))
	w.node.Do(func() {
		c, err := nftables.New()
		must(t, err)
		c.DelTable(tableOf(inet))
		must(t, c.Flush())
	})
	if all, err := p.NewFlows([]Service{service}); err != nil || len(all) != 0 {
		t.Errorf("no rules: %v, %v", all, err)
	}
	p.Resync()
	must(t, p.Apply(Ruleset{Index: 1, Services: []Service{service}}))
	wantCounts(t, "repaired", p, service, map[hashmode.Bucket]uint64{})
}

// The listing shows how many flows each bucket has had.
func TestCountersListWell(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	service := countingNew(web(buckets(0, 7), hashmode.Set{}, hashmode.Set{}))
	leased(t, p, 1, service)
	w.observer().passed(udp(clientOf(service.Hash, 3, 0), 80))
	list := w.list()
	if list == "" {
		t.Skip("nft is not installed")
	}
	for _, want := range []string{
		"0x00000003 counter packets 1 ", "0x00000004 counter packets 0 ",
		fmt.Sprintf("ct state new jhash ip saddr . th sport mod 16 seed 0x%x @web_new accept comment \"counted in the set\"", service.Hash.Seed),
	} {
		if !strings.Contains(list, want) {
			t.Errorf("the listing has no %q:\n%s", want, list)
		}
	}
}

// A kernel that cannot count is left without the rules, and answers; the probe
// says what it lacks.
func TestKernelThatCannotCount(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	service := countingNew(web(all16(), hashmode.Set{}, hashmode.Set{}))
	var findings []Finding
	w.node.Do(func() { findings = p.probeCounting([]Service{service, other()}) })
	if len(findings) != 1 || findings[0].Severity != OK || findings[0].Service != "web" {
		t.Errorf("findings %+v", findings)
	}
	p.counts = false
	leased(t, p, 1, service)
	if strings.Contains(w.list(), "web_new") {
		t.Errorf("the rules are there:\n%s", w.list())
	}
	if all, err := p.NewFlows([]Service{service}); err != nil || len(all) != 0 {
		t.Errorf("counted %v, %v", all, err)
	}
	target := netip.AddrPortFrom(service.Address, 80).String()
	w.echo(target)
	must(t, talk(w.dial("tcp", target)))
}
