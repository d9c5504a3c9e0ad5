package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"earshot/raftstore"
)

// resolveListen returns the address that the node listens on and that its
// peers know it by. "eth1:7440" means the interface's first address that is
// no service's, IPv4 before IPv6.
func (c config) resolveListen() (string, error) {
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return "", fmt.Errorf("listen: %w", err)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return c.Listen, nil
	}
	ifi, err := net.InterfaceByName(host)
	if err != nil {
		return "", withHint(fmt.Errorf("listen: no interface named %s", host), "`ip -br addr` lists the interfaces and their addresses")
	}
	addrs, err := ifi.Addrs()
	if err != nil {
		return "", fmt.Errorf("listen: list addresses of %s: %w", host, err)
	}
	ip, ok := firstAddress(addrs, c.Services)
	if !ok {
		return "", fmt.Errorf("listen: interface %s has no address of its own", host)
	}
	return net.JoinHostPort(ip.String(), port), nil
}

// firstAddress picks an interface's first address that is its own: a shared
// address may be left there by an agent that ran before.
func firstAddress(addrs []net.Addr, services []raftstore.Definition) (netip.Addr, bool) {
	var second netip.Addr
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		ip := prefix.Addr().Unmap()
		shared := slices.ContainsFunc(services, func(d raftstore.Definition) bool { return d.Address.Addr() == ip })
		switch {
		case shared || ip.IsLinkLocalUnicast():
		case ip.Is4():
			return ip, true
		case !second.IsValid():
			second = ip
		}
	}
	return second, second.IsValid()
}
