package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// resolvePeers returns the addresses of the peers, some of which may be named.
func resolvePeers(ctx context.Context, peers []string) ([]string, error) {
	var all []string
	for _, peer := range peers {
		host, port, err := net.SplitHostPort(peer)
		if err != nil {
			return nil, fmt.Errorf("peers: %w", err)
		}
		number, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
		if err != nil {
			return nil, fmt.Errorf("peers: %w", err)
		}
		addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return nil, withHint(fmt.Errorf("peers: %w", err), "write addresses, or put the name into /etc/hosts")
		}
		all = append(all, net.JoinHostPort(first(addrs).String(), strconv.Itoa(number)))
	}
	return all, nil
}

// first prefers IPv4, as a name often has both and nodes must agree.
func first(addrs []netip.Addr) netip.Addr {
	for _, a := range addrs {
		if a.Unmap().Is4() {
			return a.Unmap()
		}
	}
	return addrs[0]
}
