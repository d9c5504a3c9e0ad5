package main

import (
	"net/netip"
	"testing"
	"time"

	"earshot/e2e/load"
)

// at is a moment of the test's story.
func at(ms int) time.Time { return time.Unix(0, 0).Add(time.Duration(ms) * time.Millisecond) }

// asked is a request from one port, at a moment, that took so many milliseconds.
func asked(port uint16, start, took int, node string, failure load.Failure) load.Record {
	return load.Record{
		Start: at(start), Latency: time.Duration(took) * time.Millisecond, Node: node, Failure: failure,
		Client: netip.AddrPortFrom(netip.IPv4Unspecified(), port),
	}
}

// A request counts where it began; one that a power loss cut off, there.
func TestRequestsCountInTheirAct(t *testing.T) {
	acts := []act{{began: at(0)}, {began: at(1000)}, {began: at(2000), sudden: true}, {began: at(3000)}}
	for _, c := range []struct {
		start, took, want int
	}{{-5, 1, 0}, {10, 5, 0}, {999, 5, 0}, {1000, 5, 1}, {1999, 0, 1}, {1500, 700, 2}, {2100, 2000, 2}, {3000, 1, 3}} {
		if got := actOf(acts, asked(1, c.start, c.took, "n1", "")); got != c.want {
			t.Errorf("request at %d ms for %d ms counts in act %d, not %d", c.start, c.took, got, c.want)
		}
	}
}

// Failures, waits and the slowest answer are told apart.
func TestCounts(t *testing.T) {
	s := sample{
		fresh: load.Records{asked(1, 10, 5, "n1", ""), asked(2, 20, 1010, "n2", ""), asked(3, 30, 4000, "", load.Timeout)},
		kept:  load.Records{asked(4, 40, 1, "n1", ""), asked(4, 50, 200, "", load.Reset)},
	}
	c := s.counts([]act{{began: at(0)}})[0]
	if c.requests != 5 || c.failed() != 2 || c.waited != 1 || c.slowest != 1010*time.Millisecond || kinds(c.failures) != "1 reset, 1 timeout" {
		t.Errorf("%+v", c)
	}
}

// Shares are of the last second's answers; what fails or is older is not in them.
func TestShares(t *testing.T) {
	s := sample{at: at(2000), fresh: load.Records{
		asked(1, 900, 5, "n3", ""), asked(2, 1100, 5, "n1", ""), asked(3, 1200, 5, "n1", ""),
		asked(4, 1300, 5, "n2", ""), asked(5, 1400, 5, "", load.Refused), asked(6, 980, 500, "n2", ""),
	}}
	if s.share("n1") != 0.5 || s.share("n2") != 0.5 || s.share("n3") != 0 {
		t.Errorf("%v", s.shares())
	}
	if s.calm() {
		t.Error("calm in spite of a failure")
	}
	if gap := s.gap(at(1000)); gap != 400*time.Millisecond {
		t.Errorf("gap %v", gap)
	}
	if last := s.lastBy("n1", at(1000)); last != 200*time.Millisecond {
		t.Errorf("n1 asked last after %v", last)
	}
	if first, ok := s.firstBy("n2", at(1000)); !ok || first != 300*time.Millisecond {
		t.Errorf("n2 asked first after %v, %v", first, ok)
	}
	if _, ok := s.firstBy("n3", at(1000)); ok {
		t.Error("n3 was not asked")
	}
}

// A connection that broke is not open any more.
func TestOpenConnections(t *testing.T) {
	s := sample{kept: load.Records{
		asked(1, 0, 1, "n1", ""), asked(2, 0, 1, "n1", ""), asked(3, 0, 1, "n2", ""),
		asked(1, 100, 1, "n1", ""), asked(2, 100, 1, "", load.Reset),
	}}
	if open := s.open(); open["n1"] != 1 || open["n2"] != 1 {
		t.Errorf("%v", open)
	}
}

// The exit status goes by the acts that must be faultless.
func TestVerdict(t *testing.T) {
	bad := count{requests: 9, failures: map[load.Failure]int{load.Reset: 1}}
	good := count{requests: 9}
	for _, c := range []struct {
		faultless bool
		count     count
		want      bool
	}{{true, good, true}, {true, bad, false}, {false, bad, true}, {true, count{}, false}} {
		if err := verdict([]act{{faultless: c.faultless}}, []count{c.count}); (err == nil) != c.want {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
