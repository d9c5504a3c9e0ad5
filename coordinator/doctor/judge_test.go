package doctor

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"earshot/nft"
)

const (
	clusterMAC = "01:00:5e:28:38:14"
	stealthMAC = "02:04:c0:a8:38:14"
	routerMAC  = "52:54:00:00:00:01"
)

// fine are the reports of three nodes that hear all there is.
func fine() []Report {
	names := []string{"n1", "n2", "n3"}
	var reports []Report
	for _, name := range names {
		h := nft.Heard{
			Service: "web", Interface: "eth1", Address: netip.MustParseAddr("192.168.56.20"), MAC: clusterMAC,
			From: map[string]nft.TestCounts{}, Listening: time.Hour,
		}
		for _, other := range names {
			if other != name {
				h.From[other] = nft.TestCounts{Cluster: 12, Broadcast: 12, Group: 12}
			}
		}
		reports = append(reports, Report{Node: name, Heard: []nft.Heard{h}})
	}
	return reports
}

// each changes what every node heard of every other.
func each(reports []Report, f func(listener, sender string, c nft.TestCounts) nft.TestCounts) []Report {
	for _, r := range reports {
		for sender, c := range r.Heard[0].From {
			r.Heard[0].From[sender] = f(r.Node, sender, c)
		}
	}
	return reports
}

// one changes what the first node heard.
func one(reports []Report, f func(h *nft.Heard)) []Report {
	f(&reports[0].Heard[0])
	return reports
}

func all(reports []Report, f func(h *nft.Heard)) []Report {
	for i := range reports {
		f(&reports[i].Heard[0])
	}
	return reports
}

func deaf(nft.TestCounts) nft.TestCounts     { return nft.TestCounts{} }
func filtered(nft.TestCounts) nft.TestCounts { return nft.TestCounts{Broadcast: 12} }
func byIP(nft.TestCounts) nft.TestCounts     { return nft.TestCounts{Broadcast: 12, Group: 12} }

// to applies a change where the test says so.
func to(where func(listener, sender string) bool, f func(nft.TestCounts) nft.TestCounts) func(string, string, nft.TestCounts) nft.TestCounts {
	return func(listener, sender string, c nft.TestCounts) nft.TestCounts {
		if where(listener, sender) {
			return f(c)
		}
		return c
	}
}

func everywhere(string, string) bool { return true }

// Each situation has its findings that are not ok, as "severity node: words",
// with the beginning of what mends it.
func TestJudge(t *testing.T) {
	querier := nft.Querier{Address: netip.MustParseAddr("192.168.56.1"), MAC: routerMAC, Ago: 40 * time.Second}
	withQuerier := func(h *nft.Heard) { h.Queriers = []nft.Querier{querier} }
	for name, c := range map[string]struct {
		reports []Report
		want    []string // "severity node|words|mend"
	}{
		"fine": {fine(), nil},
		"a Linux bridge that snoops": {
			each(one(fine(), withQuerier), to(everywhere, byIP)),
			[]string{
				"fail n1|a Linux bridge between the nodes snoops, and goes by the IP address (querier 192.168.56.1 at 52:54:00:00:00:01, heard 40s ago)|ip link set dev BRIDGE type bridge mcast_snooping 0",
				"fail n2|does not hear frames to 01:00:5e:28:38:14 of any other node|ip link set dev BRIDGE",
				"fail n3|hears what goes to everybody|ip link set dev BRIDGE",
			},
		},
		"a switch that snoops, for one node": {
			each(one(fine(), withQuerier), to(func(l, _ string) bool { return l == "n2" }, filtered)),
			[]string{"fail n2|of any other node, and hears what goes to everybody: a switch snoops (querier|ip link set dev BRIDGE"},
		},
		"filtered with no querier": {
			each(fine(), to(everywhere, filtered)),
			[]string{"fail n1|a switch filters multicast|ip maddress show dev eth1", "fail n2|a switch filters|ip maddress", "fail n3|a switch filters|ip maddress"},
		},
		"stealth that is not flooded": {
			each(all(fine(), func(h *nft.Heard) { h.MAC = stealthMAC }), to(func(l, s string) bool { return l == "n1" && s == "n3" }, filtered)),
			[]string{"fail n1|does not hear frames to 02:04:c0:a8:38:14 of n3, and hears|bridge link set dev PORT flood on"},
		},
		"a node that none hears": {
			each(fine(), to(func(l, s string) bool { return l == "n3" || s == "n3" }, deaf)),
			[]string{"fail n3|no other node hears what it sends on eth1|bring it", "fail n3|hears nothing of any other node on eth1, not even what goes to everybody|bring them"},
		},
		"a node that hears none, and is heard": {
			each(fine(), to(func(l, _ string) bool { return l == "n2" }, deaf)),
			[]string{"fail n2|hears nothing of any other node on eth1|bring them"},
		},
		"two parts": {
			each(fine(), to(func(l, s string) bool { return (l == "n1") != (s == "n1") }, deaf)),
			[]string{"fail n1|no other node hears|bring it", "fail n1|hears nothing|bring them"},
		},
		"none hears any": {
			each(fine(), to(everywhere, deaf)),
			[]string{"fail n1|hears nothing of any|bring", "fail n2|hears nothing of any|bring", "fail n3|hears nothing of any|bring"},
		},
		"no interface": {
			one(fine(), func(h *nft.Heard) { h.Error = "interface eth1: no such interface" }),
			[]string{"fail n1|cannot listen or send: interface eth1: no such interface|ip link show dev eth1"},
		},
		"no report": {
			append(fine(), Report{Node: "n4", Error: "ask peer: connection refused"}),
			[]string{"warn n4|not examined: ask peer: connection refused|look at its agent"},
		},
		"a router with a node's own MAC": {
			all(fine(), func(h *nft.Heard) {
				h.Gateway = &nft.Gateway{Address: netip.MustParseAddr("192.168.56.1"), MAC: routerMAC}
				h.Senders = []nft.Sender{{MAC: routerMAC, Other: 7, To: "02:00:00:00:00:11"}}
			}),
			[]string{"fail |the gateway 192.168.56.1 (52:54:00:00:00:01) sends frames for 192.168.56.20 to 02:00:00:00:00:11 instead of the cluster MAC: only n1, n2, n3 hears them|ip neigh replace 192.168.56.20 lladdr 01:00:5e:28:38:14 nud permanent dev DEVICE"},
		},
		"a host with a node's own MAC": {
			one(fine(), func(h *nft.Heard) {
				h.Senders = []nft.Sender{{MAC: "52:54:00:00:00:09", Other: 7, To: "02:00:00:00:00:11"}}
			}),
			[]string{"fail |the host 52:54:00:00:00:09 sends|ip neigh replace"},
		},
		"a silent gateway": {
			one(fine(), func(h *nft.Heard) { h.Gateway = &nft.Gateway{Address: netip.MustParseAddr("192.168.56.1")} }),
			[]string{"warn |the default gateway 192.168.56.1 does not answer n1|ip route show default"},
		},
		"a node's own finding": {
			func() []Report {
				r := fine()
				r[1].Findings = []Finding{{Severity: nft.Warn, Service: "web", What: "rp_filter is 1", Mend: "sysctl -w net.ipv4.conf.eth1.rp_filter=2"}}
				return r
			}(),
			[]string{"warn n2|rp_filter is 1|sysctl -w"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got []Finding
			for _, f := range Judge(c.reports) {
				if f.Severity != nft.OK {
					got = append(got, f)
				}
			}
			if len(got) != len(c.want) {
				t.Fatalf("%d findings, want %d:\n%s", len(got), len(c.want), lines(got))
			}
			for i, want := range c.want {
				words := strings.Split(want, "|")
				f := got[i]
				if fmt.Sprintf("%s %s", f.Severity, f.Node) != words[0] || !strings.Contains(f.What, words[1]) || !strings.HasPrefix(f.Mend, words[2]) {
					t.Errorf("got %s\nwant %s", lines(got[i:i+1]), want)
				}
			}
		})
	}
}

func lines(findings []Finding) string {
	var all []string
	for _, f := range findings {
		all = append(all, fmt.Sprintf("%s %s|%s|%s", f.Severity, f.Node, f.What, f.Mend))
	}
	return strings.Join(all, "\n")
}

// What is right is said, too: who hears, who asks, where the router sends.
func TestJudgeSaysWhatIsRight(t *testing.T) {
	gateway := &nft.Gateway{Address: netip.MustParseAddr("192.168.56.1"), MAC: routerMAC}
	reports := all(fine(), func(h *nft.Heard) {
		h.Gateway, h.Senders = gateway, []nft.Sender{{MAC: routerMAC, Cluster: 9}}
		h.Listening = time.Minute
	})
	alone := fine()[:1]
	alone[0].Heard[0].From = nil
	alone[0].Heard[0].Queriers = []nft.Querier{{Address: netip.MustParseAddr("192.168.56.1"), MAC: routerMAC, Ago: time.Second}}
	for _, c := range []struct {
		reports []Report
		want    []string
	}{
		{reports, []string{
			"frames to 01:00:5e:28:38:14 reach every node (n1, n2, n3)", "so there may be one yet",
			"the gateway 192.168.56.1 (52:54:00:00:00:01) sends to the cluster MAC",
		}},
		{fine(), []string{"no querier asked for group members for 1h0m0s"}},
		{alone, []string{"no other node to exchange test frames with", "a querier asks for group members (querier 192.168.56.1 at"}},
	} {
		findings := Judge(c.reports)
		if Worst(findings) != nft.OK {
			t.Errorf("not fine:\n%s", lines(findings))
		}
		for _, want := range c.want {
			if !slices.ContainsFunc(findings, func(f Finding) bool { return strings.Contains(f.What, want) }) {
				t.Errorf("%q is not said:\n%s", want, lines(findings))
			}
		}
	}
	if f := Judge(all(fine(), func(h *nft.Heard) { h.MAC = stealthMAC })); slices.ContainsFunc(f, func(f Finding) bool { return strings.Contains(f.What, "querier") }) {
		t.Error("queriers matter to a stealth MAC")
	}
	if len(Judge(nil)) != 0 {
		t.Error("findings about nobody")
	}
}

// The order in which nodes answer changes nothing.
func TestJudgeIgnoresTheOrder(t *testing.T) {
	reports := each(fine(), to(everywhere, byIP))
	want := lines(Judge(reports))
	slices.Reverse(reports)
	if got := lines(Judge(reports)); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestFromKernel(t *testing.T) {
	got := FromKernel(nft.Finding{Service: "web", Severity: nft.Fail, What: "interface eth1", Mend: "m", Err: errors.New("interface eth1: gone")})
	if want := (Finding{Severity: nft.Fail, Service: "web", What: "interface eth1: gone", Mend: "m"}); got != want {
		t.Errorf("%+v", got)
	}
	if got := FromKernel(nft.Finding{Severity: nft.OK, What: "w", Mend: "m"}); got.Mend != "" {
		t.Errorf("what is right needs no mending: %+v", got)
	}
	if got := Worst([]Finding{{Severity: nft.OK}, {Severity: nft.Fail}, {Severity: nft.Warn}}); got != nft.Fail {
		t.Error(got)
	}
}

// What an agent says is wrong with its node is told of that node, the first
// one's too.
func TestProblemsOfNodesAreTold(t *testing.T) {
	reports := fine()
	reports[0].Problems = []string{"the queue is taken"}
	want := Finding{Severity: nft.Warn, Node: "n1", What: "the queue is taken"}
	if got := Judge(reports); !slices.Contains(got, want) {
		t.Errorf("%+v lacks %+v", got, want)
	}
}
