package main

import (
	"net"
	"strings"
	"testing"

	"earshot/raftstore"
)

func TestFirstAddress(t *testing.T) {
	shared := []raftstore.Definition{{Address: mustPrefix("192.168.56.20/24")}}
	tests := []struct {
		name  string
		addrs []string
		want  string
	}{
		{"the first", []string{"192.168.56.11/24", "192.168.56.12/24"}, "192.168.56.11"},
		{"not a shared address that an earlier agent left", []string{"192.168.56.20/32", "192.168.56.11/24"}, "192.168.56.11"},
		{"IPv4 before IPv6", []string{"2001:db8::1/64", "192.168.56.11/24"}, "192.168.56.11"},
		{"no link-local address", []string{"fe80::1/64", "2001:db8::1/64"}, "2001:db8::1"},
		{"none", []string{"fe80::1/64", "192.168.56.20/32"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var addrs []net.Addr
			for _, s := range tt.addrs {
				ip, network, err := net.ParseCIDR(s)
				if err != nil {
					t.Fatal(err)
				}
				addrs = append(addrs, &net.IPNet{IP: ip, Mask: network.Mask})
			}
			got, ok := firstAddress(addrs, shared)
			if ok != (tt.want != "") || ok && got.String() != tt.want {
				t.Errorf("got %v, %v", got, ok)
			}
		})
	}
}

func TestResolveListen(t *testing.T) {
	if got, err := (config{Listen: "192.0.2.1:7440"}).resolveListen(); err != nil || got != "192.0.2.1:7440" {
		t.Errorf("got %s, %v", got, err)
	}
	_, err := config{Listen: "no-such-if:7440"}.resolveListen()
	if err == nil || !strings.Contains(err.Error(), "no interface named no-such-if") || hintOf(err) == "" {
		t.Errorf("got %v", err)
	}
}
