package nft

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"earshot/hashmode"
)

// Reset ends the TCP connections that this node has in the buckets of a
// service: their clients get a reset at once, also those that wait for an
// answer and send nothing, and so does the server. It returns how many there
// were. The services are all that the node has, as for Flows. A kernel that
// cannot do this (CONFIG_INET_DIAG_DESTROY) gives an UnsupportedError.
func (p *Plane) Reset(services []Service, service string, buckets hashmode.Set) (int, error) {
	byAddr, err := byAddress(services)
	if err != nil {
		return 0, err
	}
	return p.ns.endSockets(openStates, byAddr, map[string]hashmode.Set{service: buckets})
}

// endSockets ends the TCP sockets in some states in buckets of services, by
// their names.
func (n namespace) endSockets(states uint32, byAddr map[netip.Addr]address, buckets map[string]hashmode.Set) (ended int, err error) {
	err = n.do(func() error {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			sockets, err := socketsIn(states, family)
			if errors.Is(err, unix.ENOENT) {
				err = &UnsupportedError{Feature: "listing connections", Needs: "Linux 4.5 with CONFIG_INET_DIAG and CONFIG_INET_TCP_DIAG", Err: err}
			}
			if err != nil {
				return err
			}
			for _, s := range sockets {
				key := s.ends
				a, ours := byAddr[key.server.Addr()]
				if !ours || key.client.Addr() == key.server.Addr() {
					continue
				}
				decides, spec := a.decider(unix.IPPROTO_TCP, key.server.Port())
				if !buckets[decides.Name].Has(spec.Bucket(key.client, key.server.Port())) {
					continue
				}
				switch err := s.destroy(); {
				case errors.Is(err, unix.ENOENT): // it has ended meanwhile
				case errors.Is(err, unix.EOPNOTSUPP):
					return &UnsupportedError{Feature: "resetting connections", Needs: "Linux 4.5 with CONFIG_INET_DIAG_DESTROY", Err: err}
				case err != nil:
					return fmt.Errorf("reset the connection of %s: %w", key.client, err)
				default:
					ended++
				}
			}
		}
		return nil
	})
	return ended, err
}
