package nft

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"earshot/hashmode"
)

// Disown has conntrack forget the flows in buckets that this node has given up,
// by the services' names, but for TCP's. Those entries outlive the node's part
// in a flow for minutes. When the bucket comes back while another node has the
// flow, that one drains it, and this one would know it, too: both would answer.
// A TCP flow that moved was reset; one that is half open is ended, where the
// kernel can, or its SYN-ACK would be sent again from a bucket that came back,
// to a client whom another node has answered meanwhile.
func (p *Plane) Disown(services []Service, buckets map[string]hashmode.Set) error {
	byAddr, err := byAddress(services)
	if err != nil {
		return err
	}
	gone := map[string]hashmode.Set{}
	for _, s := range services { // those that are back may have new ones
		gone[s.Name] = buckets[s.Name].Minus(s.Own).Minus(s.Inherit).Minus(s.Take)
	}
	_, err = p.ns.endSockets(halfOpen, byAddr, gone)
	var unsupported *UnsupportedError
	switch {
	case errors.As(err, &unsupported):
		err = nil
	case err != nil:
		err = fmt.Errorf("end half-open connections: %w", err)
	}
	return errors.Join(err, p.forgetIn(byAddr, buckets))
}

// forgetIn has conntrack forget the flows in the buckets, but for TCP's.
func (p *Plane) forgetIn(byAddr map[netip.Addr]address, buckets map[string]hashmode.Set) error {
	return p.tracker.ask(func(c *netfilter) error {
		var gone [][]byte
		err := c.list(func(f tracked, body []byte) {
			if among(byAddr, buckets, f) {
				gone = append(gone, append([]byte(nil), body...))
			}
		})
		if err != nil {
			return fmt.Errorf("list conntrack: %w", err)
		}
		for at := 0; at < len(gone); at += questionsAtOnce {
			if err := c.forget(gone[at:min(at+questionsAtOnce, len(gone))]); err != nil {
				return fmt.Errorf("delete a flow from conntrack: %w", err)
			}
		}
		return nil
	})
}

// forget deletes listed flows from conntrack, by their messages' bodies. Those
// that have ended since are none to delete.
func (c *netfilter) forget(flows [][]byte) error {
	var m []byte
	for i, body := range flows {
		m = appendDelete(m, uint32(i), body)
	}
	return c.converse(m, len(flows), func(_ int, kind uint16, body []byte) error {
		if err := errorOf(body); kind == unix.NLMSG_ERROR && !errors.Is(err, unix.ENOENT) {
			return err
		}
		return nil
	})
}

// among reports whether a flow, not of TCP, is in one of the buckets.
func among(byAddr map[netip.Addr]address, buckets map[string]hashmode.Set, f tracked) bool {
	key := f.fromClient(byAddr)
	a, ours := byAddr[key.server.Addr()]
	if !ours || f.protocol == unix.IPPROTO_TCP {
		return false
	}
	service, spec := a.decider(f.protocol, key.server.Port())
	return buckets[service.Name].Has(spec.Bucket(key.client, key.server.Port()))
}
