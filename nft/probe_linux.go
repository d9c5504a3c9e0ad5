package nft

import (
	"io"
	"log/slog"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Severity says how bad a finding is.
type Severity string

// The severities.
const (
	OK   Severity = "ok"
	Warn Severity = "warn" // works, but not as well or not everywhere
	Fail Severity = "fail" // the service cannot work
)

// A Finding is one thing that Probe looked at.
type Finding struct {
	Service  string // "" for what concerns them all
	Severity Severity
	What     string // what was found, in words
	Mend     string // what to do about it; "" if nothing
	Err      error  // for Fail and Warn, if there is one
}

// Text is the finding with its error, in words.
func (f Finding) Text() string {
	switch {
	case f.Err == nil:
		return f.What
	case strings.HasPrefix(f.Err.Error(), f.What): // it names the thing itself
		return f.Err.Error()
	}
	return f.What + ": " + f.Err.Error()
}

// Probe looks whether this kernel and this node can serve the services, and
// changes nothing: features are tried in transactions that are bound to fail
// at their end. It takes up to half a second for each address, because it
// asks the segment whether somebody else has it.
func Probe(services []Service) []Finding {
	findings := probePrivilege()
	p, err := Open(slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		return append(findings, Finding{Severity: Fail, What: "netlink", Mend: "run as root, or with CAP_NET_ADMIN and CAP_NET_RAW", Err: err})
	}
	defer p.Close()
	findings = append(findings, p.probeFeatures(features())...)
	flows := Finding{Severity: OK, What: "list of flows"}
	if _, err := p.Flows(nil); err != nil {
		flows.Severity, flows.Mend, flows.Err = Warn, "use CONFIG_NF_CT_NETLINK and CONFIG_INET_TCP_DIAG, or drains end at their limit only", err
	}
	findings = append(findings, flows, p.probeQueue())
	findings = append(findings, p.probeRefusal(services)...)
	findings = append(findings, p.probeCounting(services)...)
	findings = append(findings, p.ProbeConntrack()...)
	addrs, names, err := p.listAddresses()
	if err != nil {
		return append(findings, Finding{Severity: Fail, What: "addresses of this node", Err: err})
	}
	all, err := addresses(services)
	if err != nil {
		findings = append(findings, Finding{Severity: Fail, What: "services", Mend: "give each address one interface and MAC, and each port one service", Err: err})
	}
	for _, s := range services {
		if err := s.check(); err != nil {
			findings = append(findings, Finding{Service: s.Name, Severity: Fail, What: "definition", Err: err})
		}
	}
	for _, a := range all {
		findings = append(findings, p.probeAddress(a, addrs, names)...)
	}
	return findings
}

// probePrivilege reads the process's effective capabilities.
func probePrivilege() []Finding {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return []Finding{{Severity: Fail, What: "capabilities", Err: err}}
	}
	var findings []Finding
	for _, c := range []struct {
		bit  uint
		name string
	}{{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_NET_RAW, "CAP_NET_RAW"}} {
		f := Finding{Severity: OK, What: c.name}
		if data[0].Effective&(1<<c.bit) == 0 {
			f.Severity, f.Err = Fail, unix.EPERM
			f.Mend = "run as root, or give the process " + c.name
		}
		findings = append(findings, f)
	}
	return findings
}

func (p *Plane) probeAddress(a address, addrs []netlink.Addr, names map[int]string) []Finding {
	service := a.Services[0].Name
	link, err := p.links.LinkByName(a.Interface)
	if err != nil {
		return []Finding{{service, Fail, "interface " + a.Interface, "name an interface that exists", noInterface(a.Interface)}}
	}
	findings := []Finding{{Service: service, Severity: OK, What: "interface " + a.Interface}}
	attrs := link.Attrs()
	if !heardFlags(attrs.RawFlags) {
		findings[0].Severity, findings[0].Mend = Fail, "ip link set dev "+a.Interface+" up"
		if attrs.RawFlags&unix.IFF_UP != 0 {
			findings[0].Mend = "look at its cable, or at the switch's port"
		}
		findings[0].Err = unix.ENETDOWN
	}
	if attrs.EncapType != "ether" {
		findings = append(findings, Finding{service, Fail, "interface " + a.Interface + " is " + attrs.EncapType, "use an Ethernet interface", &UnsupportedError{Feature: attrs.EncapType + " interfaces", Needs: "Ethernet"}})
	}
	if err := ownAddress(a.Services[0], addrs, names); err != nil {
		return append(findings, Finding{service, Fail, "address " + a.Addr.String(), "choose an address that no host has", err})
	}
	if a.Addr.Is6() {
		findings = append(findings, probeOwnSource(a, attrs.Index, addrs))
	}
	findings = append(findings, probeKnobs(service, a)...)
	findings = append(findings, p.probeBridge(a, link)...)
	if findings[0].Severity == OK {
		findings = append(findings, p.probeStranger(a))
	}
	return findings
}

// probeOwnSource looks for what the node's own connections are to come from: a
// deprecated address is avoided, but taken where there is no other of its
// scope.
func probeOwnSource(a address, index int, addrs []netlink.Addr) Finding {
	f := Finding{Service: a.Services[0].Name, Severity: OK, What: "the node's own IPv6 address on " + a.Interface}
	const unfit = unix.IFA_F_DEPRECATED | unix.IFA_F_DADFAILED
	for _, have := range addrs {
		if have.LinkIndex == index && addrOf(have).Is6() && addrOf(have).IsGlobalUnicast() && have.Flags&unfit == 0 {
			return f
		}
	}
	f.Severity, f.What = Warn, "no IPv6 address of the node's own on "+a.Interface
	f.Mend = "give it one, or the node's own connections leave with the shared address"
	return f
}
