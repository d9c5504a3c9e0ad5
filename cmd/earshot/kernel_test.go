package main

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"earshot/hashmode"
	"earshot/nft"
	"earshot/raftstore"
)

func TestProbeFailure(t *testing.T) {
	fine := []nft.Finding{{Severity: nft.OK, What: "nf_tables"}, {Severity: nft.Warn, What: "rp_filter is 1", Mend: "set it to 2"}}
	if err := probeFailure(fine); err != nil {
		t.Errorf("refused: %v", err)
	}
	for want, f := range map[string]nft.Finding{
		"nf_tables hash: no":                             {What: "nf_tables hash", Err: errors.New("no")},
		"service web: interface eth1: no such interface": {Service: "web", What: "interface eth1", Err: errors.New("interface eth1: no such interface")},
		"service web: definition":                        {Service: "web", What: "definition"},
	} {
		f.Severity, f.Mend = nft.Fail, "mend it"
		err := probeFailure(append(fine, f))
		if err == nil || err.Error() != want || hintOf(err) != "mend it" || f.Err != nil && !errors.Is(err, f.Err) {
			t.Errorf("got %v, hint %q, want %s", err, hintOf(err), want)
		}
	}
}

// A node starts without some of its services, but not without all, nor with what
// concerns all, nor beside another host that has an address.
func TestStartFailure(t *testing.T) {
	services := []nft.Service{
		{Name: "dns", Address: netip.MustParseAddr("192.168.56.20")}, {Name: "web", Address: netip.MustParseAddr("192.168.56.20")},
		{Name: "mail", Address: netip.MustParseAddr("192.168.56.30")},
	}
	finding := func(service string, err error) nft.Finding {
		return nft.Finding{Service: service, Severity: nft.Fail, What: "it", Err: err}
	}
	dns, mail := finding("dns", nft.ErrNoInterface), finding("mail", syscall.ENETDOWN)
	for name, tt := range map[string]struct {
		findings []nft.Finding
		later    int
		fails    bool
	}{
		"fine":               {[]nft.Finding{{Service: "web", Severity: nft.Warn}, {Severity: nft.OK}}, 0, false},
		"one address":        {[]nft.Finding{dns}, 1, false},
		"own address":        {[]nft.Finding{finding("mail", nft.ErrOwnAddress)}, 1, false},
		"all addresses":      {[]nft.Finding{dns, mail}, 0, true},
		"the kernel":         {[]nft.Finding{mail, finding("", nft.ErrNoInterface)}, 1, true},
		"a stranger":         {[]nft.Finding{finding("mail", errors.New("taken"))}, 0, true},
		"no Ethernet at all": {[]nft.Finding{finding("mail", &nft.UnsupportedError{})}, 0, true},
	} {
		later, err := startFailure(tt.findings, services)
		if len(later) != tt.later || (err != nil) != tt.fails {
			t.Errorf("%s: %d to come later, %v", name, len(later), err)
		}
	}
}

// What the configuration lets through, package nft can make of it.
func TestKernelServices(t *testing.T) {
	d := raftstore.Definition{
		Name: "web", Address: mustPrefix("192.168.56.20/24"), Interface: "eth1", Hash: hashmode.SourceIP,
		Ports: []string{"tcp/80", "udp/53"}, Buckets: 16, MAC: "01:00:5e:28:38:14",
	}
	got := kernelServices([]raftstore.Definition{d})
	if len(got) != 1 || got[0].MAC.String() != d.MAC || got[0].Hash.Seed == 0 {
		t.Fatalf("got %+v", got)
	}
	if want := []nft.Port{{Protocol: nft.TCP, Number: 80}, {Protocol: nft.UDP, Number: 53}}; !reflect.DeepEqual(got[0].Ports, want) {
		t.Errorf("ports %v", got[0].Ports)
	}
}

// A name that is as long as may be is none too many for the kernel.
func TestLongestServiceName(t *testing.T) {
	if err := checkServiceName(strings.Repeat("a", maxServiceName)); err != nil {
		t.Error(err)
	}
	if err := checkServiceName(strings.Repeat("a", maxServiceName+1)); err == nil {
		t.Error("accepted")
	}
}
