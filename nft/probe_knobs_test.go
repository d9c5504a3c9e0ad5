package nft

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"earshot/hashmode"
)

// bad returns the findings whose text has a word in it, and are not OK.
func (w *world) bad(word string, services ...Service) (found []Finding) {
	w.t.Helper()
	for _, f := range w.probe(services...) {
		if strings.Contains(f.What, word) && f.Severity != OK {
			found = append(found, f)
		}
	}
	return found
}

// Each knob that is set wrong is found, and the command that the finding names
// sets it right.
func TestKnobsAreMendedByTheirCommands(t *testing.T) {
	for _, c := range []struct {
		v6    bool
		wrong map[string]int // path below /proc/sys to value
		word  string
	}{
		{false, map[string]int{"net/ipv4/conf/eth1/rp_filter": 1}, "rp_filter"},
		{false, map[string]int{"net/ipv4/conf/all/rp_filter": 1}, "rp_filter"},
		{false, map[string]int{"net/ipv4/conf/eth1/arp_ignore": 8}, "arp_ignore"},
		{false, map[string]int{"net/ipv4/conf/all/arp_ignore": 3, "net/ipv4/conf/eth1/arp_ignore": 4}, "arp_ignore"},
		{false, map[string]int{"net/ipv4/conf/all/arp_filter": 1}, "arp_filter"},
		{false, map[string]int{"net/ipv4/icmp_echo_ignore_all": 1}, "icmp_echo_ignore_all"},
		{false, map[string]int{"net/netfilter/nf_conntrack_tcp_loose": 0}, "nf_conntrack_tcp_loose"},
		{true, map[string]int{"net/ipv6/conf/eth1/disable_ipv6": 1}, "disable_ipv6"},
		{true, map[string]int{"net/ipv6/icmp/echo_ignore_all": 1}, "echo_ignore_all"},
	} {
		t.Run(c.word, func(t *testing.T) {
			w := newWorld(t)
			s := webOf(c.v6, all16(), hashmode.Set{}, hashmode.Set{})
			if found := w.bad(c.word, s); len(found) > 0 {
				t.Fatalf("found before anything was wrong: %+v", found)
			}
			w.node.Do(func() {
				for path, v := range c.wrong {
					must(t, writeInt("/proc/sys/"+path, v))
				}
			})
			found := w.bad(c.word, s)
			if len(found) != 1 || !strings.HasPrefix(found[0].Mend, "sysctl -w net.") {
				t.Fatalf("found %+v", found)
			}
			w.node.Do(func() { // as sysctl would
				for _, setting := range strings.Fields(found[0].Mend)[2:] {
					name, value, _ := strings.Cut(setting, "=")
					must(t, writeInt("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), int(value[0]-'0')))
				}
			})
			if found := w.bad(c.word, s); len(found) > 0 {
				t.Errorf("still wrong after %v: %+v", found[0].Mend, found)
			}
		})
	}
}

func TestSysctlName(t *testing.T) {
	if got := sysctlName("net/ipv4/conf/eth1/rp_filter"); got != "net.ipv4.conf.eth1.rp_filter" {
		t.Error(got)
	}
	if got := sysctlName("net/ipv4/conf/eth1.7/rp_filter"); got != "net/ipv4/conf/eth1.7/rp_filter" {
		t.Error(got)
	}
}

// A bridge of this machine that snoops is found, and the command named ends it.
func TestBridgeOfThisMachine(t *testing.T) {
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("ip(8) is not installed: the command cannot be run as it is")
	}
	w := newWorld(t)
	s := web(all16(), hashmode.Set{}, hashmode.Set{})
	s.Interface = "br0"
	snooping := true
	w.node.Do(func() {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "br0"
		must(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}))
	})
	stealthy := stealthy(s)
	if found := w.bad("snoops", stealthy); len(found) > 0 {
		t.Errorf("with a stealth MAC: %+v", found)
	}
	found := w.bad("snoops", s)
	if len(found) != 1 {
		t.Fatalf("found %+v", found)
	}
	w.node.Do(func() {
		words := strings.Fields(found[0].Mend)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", found[0].Mend, err, out)
		}
	})
	if found := w.bad("snoops", s); len(found) > 0 {
		t.Errorf("still found: %+v", found)
	}
}
