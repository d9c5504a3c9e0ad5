package nft

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"earshot/hashmode"
)

func (w *world) probe(services ...Service) (findings []Finding) {
	w.node.Do(func() { findings = Probe(services) })
	return findings
}

func worst(findings []Finding) (bad []Finding) {
	for _, f := range findings {
		if f.Severity == Fail {
			bad = append(bad, f)
		}
	}
	return bad
}

// A sound node has no failure, and the probe leaves no trace.
func TestProbeOfASoundNode(t *testing.T) {
	w := newWorld(t)
	before := w.traces()
	findings := w.probe(ownAll(), other(), webOf(true, all16(), hashmode.Set{}, hashmode.Set{}))
	if bad := worst(findings); len(bad) > 0 {
		t.Fatalf("failures: %+v", bad)
	}
	if w.traces() != before || w.list() != "" {
		t.Fatalf("the probe left %s\n%s", w.traces(), w.list())
	}
	// A node that serves is sound, too.
	leased(t, w.plane(), 1, ownAll())
	if bad := worst(w.probe(ownAll())); len(bad) > 0 {
		t.Fatalf("failures while serving: %+v", bad)
	}
}

func TestProbeFindings(t *testing.T) { eachIP(t, probeFindings) }

func probeFindings(t *testing.T, v6 bool) {
	w := newWorld(t)
	sound := webOf(v6, all16(), hashmode.Set{}, hashmode.Set{})
	mine, taken, missing := sound, sound, sound
	mine.Address = nodeAddr(v6)
	taken.Address = clientAddr(v6)
	missing.Interface = "eth9"
	for _, c := range []struct {
		service Service
		want    error
		text    string
	}{
		{mine, ErrOwnAddress, nodeAddr(v6).String()},
		{taken, nil, w.clientMAC.String()},
		{missing, ErrNoInterface, "eth9"},
	} {
		bad := worst(w.probe(c.service))
		if len(bad) == 0 {
			t.Errorf("%s on %s: no failure", c.service.Address, c.service.Interface)
			continue
		}
		if f := bad[0]; c.want != nil && !errors.Is(f.Err, c.want) || !strings.Contains(f.What, c.text) || f.Err == nil {
			t.Errorf("finding %+v, want %v and %q", f, c.want, c.text)
		}
	}
	w.node.Do(func() {
		link, err := netlink.LinkByName("eth1")
		must(t, err)
		must(t, netlink.LinkSetDown(link))
	})
	if bad := worst(w.probe(sound)); len(bad) != 1 || bad[0].What != "interface eth1" {
		t.Errorf("interface down: %+v", bad)
	}
}

// Features that the kernel lacks are found: here one that no kernel has.
func TestProbeFindsAMissingFeature(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	w.node.Do(func() {
		impossible := feature{"set", "nothing", tryRules(inet, nil, chain{name: "test", rules: []rule{when(in("no-such-set"))}})}
		if err := p.tryFeature(impossible); err == nil {
			t.Error("a rule with a missing set passed")
		}
		for _, f := range features() {
			if err := p.tryFeature(f); err != nil {
				t.Errorf("%s: %v", f.name, err)
			}
		}
	})
}

func TestDefaultMAC(t *testing.T) {
	for addr, want := range map[string]string{
		"192.168.56.20": "01:00:5e:28:38:14",
		"10.0.0.5":      "01:00:5e:40:00:05",
		"10.128.0.5":    "01:00:5e:40:00:05",
		"10.0.1.5":      "01:00:5e:00:01:05",
		"203.0.113.7":   "01:00:5e:00:71:07",
		"fd00::1:2:20":  "33:33:80:02:00:20",
		"fd00::20":      "33:33:80:00:00:20",
		"fd00::ff01:2":  "33:33:bf:01:00:02",
		"fd00::7f01:2":  "33:33:bf:01:00:02",
	} {
		if got := DefaultMAC(netip.MustParseAddr(addr)); got.String() != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

func TestInvalidRulesets(t *testing.T) {
	change := func(f func(s *Service)) []Service {
		s := ownAll()
		f(&s)
		return []Service{s}
	}
	second := func(f func(s *Service)) []Service {
		s := ownAll()
		s.Name, s.Ports = "zwei", []Port{{TCP, 443}}
		f(&s)
		return []Service{ownAll(), s}
	}
	for name, services := range map[string][]Service{
		"no name":        change(func(s *Service) { s.Name = "" }),
		"name":           change(func(s *Service) { s.Name = "a b" }),
		"twice":          {ownAll(), ownAll()},
		"no address":     change(func(s *Service) { s.Address = netip.Addr{} }),
		"interface":      change(func(s *Service) { s.Interface = "sixteen-letters-" }),
		"MAC":            change(func(s *Service) { s.MAC = net.HardwareAddr{1} }),
		"mode":           change(func(s *Service) { s.Hash.Mode = "" }),
		"seed":           change(func(s *Service) { s.Hash.Seed = 0 }),
		"protocol":       change(func(s *Service) { s.Ports = []Port{{1, 1}} }),
		"bucket":         change(func(s *Service) { s.Own = hashmode.NewSet(16) }),
		"two states":     change(func(s *Service) { s.Drain = hashmode.NewSet(1) }),
		"overlap":        second(func(s *Service) { s.Ports = []Port{{UDP, 80}} }),
		"mapped":         change(func(s *Service) { s.Address = netip.MustParseAddr("::ffff:192.168.56.20") }),
		"multicast":      change(func(s *Service) { s.Address = netip.MustParseAddr("ff15::20") }),
		"device's MAC":   change(func(s *Service) { s.MAC = net.HardwareAddr{0, 0x1b, 0x21, 0, 1, 1} }),
		"all and some":   second(func(s *Service) { s.Ports = nil }),
		"two MACs":       second(func(s *Service) { s.MAC = net.HardwareAddr{1, 0, 0x5e, 0, 1, 1} }),
		"two interfaces": second(func(s *Service) { s.Interface = "eth2" }),
	} {
		if _, err := render(Ruleset{Index: 1, Services: services}, QueueNone); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := render(Ruleset{Services: second(func(*Service) {})}, QueueNone); err != nil {
		t.Errorf("a sound ruleset: %v", err)
	}
}

// What keeps IPv6 from working, or works against the node's own connections.
func TestProbeOfIPv6(t *testing.T) {
	w := newWorld(t)
	service := webOf(true, all16(), hashmode.Set{}, hashmode.Set{})
	find := func(text string) (found Finding) {
		for _, f := range w.probe(service) {
			if strings.Contains(f.What, text) {
				found = f
			}
		}
		return found
	}
	if f := find("own IPv6 address"); f.Severity != OK {
		t.Errorf("finding %+v", f)
	}
	w.node.Do(func() {
		link, err := netlink.LinkByName("eth1")
		must(t, err)
		must(t, netlink.AddrDel(link, &netlink.Addr{IPNet: &net.IPNet{IP: nodeAddr(true).AsSlice(), Mask: net.CIDRMask(64, 128)}}))
	})
	if f := find("IPv6 address of the node's own"); f.Severity != Warn {
		t.Errorf("finding %+v", f)
	}
	w.node.Do(func() { must(t, writeInt("/proc/sys/net/ipv6/conf/eth1/disable_ipv6", 1)) })
	if f := find("disable_ipv6"); f.Severity != Fail {
		t.Errorf("finding %+v", f)
	}
}
