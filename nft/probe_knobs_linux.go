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
	want int    // mends it
	harm string // of a bad value
}

func knobs(a address) []knob {
	zero := func(v int) bool { return v == 0 }
	if a.Addr.Is6() {
		conf := "net/ipv6/conf/" + a.Interface
		return []knob{
			{conf + "/disable_ipv6", zero, false, Fail, 0, "the interface has no IPv6"},
			{"net/ipv6/icmp/echo_ignore_all", zero, false, Warn, 0, "no ping to the shared address is answered"},
		}
	}
	conf := "net/ipv4/conf/" + a.Interface
	return []knob{
		{conf + "/arp_announce", func(v int) bool { return v == arpAnnounceBest }, true, Warn, arpAnnounceBest,
			"ARP requests carry the shared address, which strict routers ignore, and the agent may not change that"},
		{conf + "/arp_ignore", func(v int) bool { return v < 3 }, false, Warn, 1,
			"the node does not answer ARP for the shared address"},
		{conf + "/arp_filter", zero, false, Warn, 0,
			"hosts that this node would reach by another interface get no answer to ARP"},
		{conf + "/rp_filter", func(v int) bool { return v != 1 }, false, Warn, 2,
			"clients that come by a router which is not this node's way to them are dropped"},
		{"net/ipv4/icmp_echo_ignore_all", zero, false, Warn, 0, "no ping to the shared address is answered"},
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
	f = Finding{Service: service, Severity: OK, What: fmt.Sprintf("%s is %d", sysctlName(k.path), v), Err: err}
	switch writable := unix.Access("/proc/sys/"+k.path, unix.W_OK) == nil; {
	case err == nil && (k.good(v) || k.ours && writable):
	default:
		f.Severity, f.Mend = k.bad, k.command(ifname)
		f.What += ": " + k.harm
	}
	return f, true
}

// command sets the knob right.
func (k knob) command(ifname string) string {
	words := []string{"sysctl -w"}
	for _, path := range []string{k.allPath(ifname), k.path} {
		if path == "" {
			continue
		}
		// The larger of the two holds: that of "all" matters if it is bad.
		if v, err := readInt("/proc/sys/" + path); path == k.path || err == nil && v > k.want && !k.good(v) {
			words = append(words, fmt.Sprintf("%s=%d", sysctlName(path), k.want))
		}
	}
	return strings.Join(words, " ")
}

// sysctlName is the setting as sysctl(8) takes it: with slashes where a name
// has dots in it.
func sysctlName(path string) string {
	if strings.Contains(path, ".") {
		return path
	}
	return strings.ReplaceAll(path, "/", ".")
}

// allPath is the setting for all interfaces beside one of an interface; empty
// if there is none that matters.
func (k knob) allPath(ifname string) string {
	if name, ok := strings.CutPrefix(k.path, "net/ipv4/conf/"+ifname+"/"); ok {
		return "net/ipv4/conf/all/" + name
	}
	return ""
}

// readKnob reads a setting. Of those of an interface, IPv4 uses the larger of
// its value and that of "all".
func readKnob(k knob, ifname string) (int, error) {
	v, err := readInt("/proc/sys/" + k.path)
	if path := k.allPath(ifname); path != "" && err == nil {
		if all, err := readInt("/proc/sys/" + path); err == nil {
			v = max(v, all)
		}
	}
	return v, err
}
