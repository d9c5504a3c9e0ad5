package nft

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A knob is a setting of the kernel that can keep a service from working.
type knob struct {
	path string
	good func(int) bool
	ours bool // the agent sets it, if it may
	bad  Severity
	mend string
}

func knobs(a address) []knob {
	zero := func(v int) bool { return v == 0 }
	if a.Addr.Is6() {
		conf := "net/ipv6/conf/" + a.Interface
		return []knob{
			{conf + "/disable_ipv6", zero, false, Fail, "set it to 0: the interface has no IPv6"},
			{"net/ipv6/icmp/echo_ignore_all", zero, false, Warn, "set it to 0 if clients ping the shared address"},
		}
	}
	conf := "net/ipv4/conf/" + a.Interface
	return []knob{
		{conf + "/arp_announce", func(v int) bool { return v == arpAnnounceBest }, true, Warn,
			"set it to 2, so that ARP requests carry the node's own address: the agent may not"},
		{conf + "/arp_ignore", func(v int) bool { return v < 3 }, false, Warn,
			"set it below 3, or the node does not answer ARP for the shared address"},
		{conf + "/rp_filter", func(v int) bool { return v != 1 }, false, Warn,
			"set it to 2 or 0 if clients come by a router that is not this node's gateway"},
		{"net/ipv4/icmp_echo_ignore_all", zero, false, Warn, "set it to 0 if clients ping the shared address"},
	}
}

func probeKnobs(service string, a address) []Finding {
	var findings []Finding
	for _, k := range knobs(a) {
		if f, ok := probeKnob(service, k, a.Interface); ok {
			findings = append(findings, f)
		}
	}
	return findings
}

// probeKnob looks at one setting; ok is false where there is none.
func probeKnob(service string, k knob, ifname string) (f Finding, ok bool) {
	v, err := readKnob(k, ifname)
	if errors.Is(err, os.ErrNotExist) {
		return f, false
	}
	f = Finding{Service: service, Severity: OK, What: fmt.Sprintf("%s is %d", strings.ReplaceAll(k.path, "/", "."), v), Err: err}
	switch writable := unix.Access("/proc/sys/"+k.path, unix.W_OK) == nil; {
	case err == nil && (k.good(v) || k.ours && writable):
	default:
		f.Severity, f.Mend = k.bad, k.mend
	}
	return f, true
}

// readKnob reads a setting. Of those of an interface, IPv4 uses the larger of
// its value and that of "all".
func readKnob(k knob, ifname string) (int, error) {
	v, err := readInt("/proc/sys/" + k.path)
	if name, ok := strings.CutPrefix(k.path, "net/ipv4/conf/"+ifname); ok && err == nil {
		if all, err := readInt("/proc/sys/net/ipv4/conf/all" + name); err == nil {
			v = max(v, all)
		}
	}
	return v, err
}
