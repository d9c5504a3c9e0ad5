package nft

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/ti-mo/conntrack"
	"golang.org/x/sys/unix"

	"earshot/hashmode"
)

// Disown has conntrack forget the flows in buckets that this node has given up,
// by the services' names, but for TCP's. Those entries outlive the node's part
// in a flow for minutes. When the bucket comes back while another node has the
// flow, that one drains it, and this one would know it, too: both would answer.
// A TCP flow that moved was reset.
func (p *Plane) Disown(services []Service, buckets map[string]hashmode.Set) error {
	all, err := addresses(services)
	if err != nil {
		return err
	}
	byAddr := map[netip.Addr]address{}
	for _, a := range all {
		byAddr[a.Addr] = a
	}
	return p.tracker.ask(func(c *conntrack.Conn) error {
		flows, err := c.Dump(nil)
		if err != nil {
			return fmt.Errorf("list conntrack: %w", err)
		}
		for _, f := range flows {
			if !among(byAddr, buckets, f) {
				continue
			}
			if err := c.Delete(f); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("delete a flow from conntrack: %w", err)
			}
		}
		return nil
	})
}

// among reports whether a flow, not of TCP, is in one of the buckets.
func among(byAddr map[netip.Addr]address, buckets map[string]hashmode.Set, f conntrack.Flow) bool {
	key, protocol := keyOfTuple(f.TupleOrig), f.TupleOrig.Proto.Protocol
	a, ours := byAddr[key.server.Addr()]
	if !ours || protocol == unix.IPPROTO_TCP {
		return false
	}
	service, spec := a.decider(protocol, key.server.Port())
	return buckets[service.Name].Has(spec.Bucket(key.client, key.server.Port()))
}
