package nft

import (
	"strings"
	"testing"

	"earshot/hashmode"
)

// What conntrack's settings would break is named, with what mends it.
func TestProbeConntrack(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	must(t, p.Apply(Ruleset{Index: 1, Services: []Service{ownAll()}})) // conntrack works from now on
	warned := func() (what []string) {
		for _, f := range p.ProbeConntrack() {
			if f.Severity == Fail || f.Severity == Warn && f.Mend == "" {
				t.Errorf("finding %+v", f)
			}
			if f.Severity == Warn {
				what = append(what, f.What)
			}
		}
		return what
	}
	if got := warned(); len(got) > 0 {
		t.Fatalf("warnings about a sound node: %q", got)
	}
	for name, bad := range map[string]int{"tcp_loose": 0, "tcp_timeout_established": 600, "udp_timeout": 10, "udp_timeout_stream": 5, "icmp_timeout": 10, "icmpv6_timeout": 10, "generic_timeout": 1} {
		path := "/proc/sys/net/netfilter/nf_conntrack_" + name
		w.node.Do(func() {
			good, err := readInt(path)
			must(t, err)
			must(t, writeInt(path, bad))
			if got := warned(); len(got) != 1 || !strings.Contains(got[0], name) {
				t.Errorf("%s is %d: warnings %q", name, bad, got)
			}
			must(t, writeInt(path, good))
		})
	}
}

func TestConntrackNearlyFull(t *testing.T) {
	for use, want := range map[ConntrackUse]bool{{79, 100}: false, {80, 100}: true, {100, 100}: true, {0, 0}: false, {4 << 28, 1 << 31}: false, {3500000000, 4294967295}: true} {
		if got := use.NearlyFull(); got != want {
			t.Errorf("%+v: %v", use, got)
		}
	}
}

// The probe says by what packets are held, and what is lost without it.
func TestProbeQueue(t *testing.T) {
	w := newWorld(t)
	for _, p := range []*Plane{w.plane(), w.plane(WithoutQueue())} {
		f := p.probeQueue()
		if want := p.queue == QueueNone; (f.Severity == Warn) != want || (f.Mend != "") != want || !strings.Contains(f.What, "queue") {
			t.Errorf("finding %+v of %s", f, p.queue)
		}
	}
	found := false
	for _, f := range w.probe(webOf(false, all16(), hashmode.Set{}, hashmode.Set{})) {
		found = found || strings.Contains(f.What, "queue for packets")
	}
	if !found {
		t.Error("the probe does not speak of the queue")
	}
}
