package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Client is a host that asks. Besides its own address it has a whole network
// of source addresses.
type Client struct {
	*Namespace
	Port *Port
	// Sources is the network whose every address is the client's own.
	Sources netip.Prefix
}

// Source returns the client's i-th source address, counted from zero. The
// network's first and last addresses are skipped.
func (c *Client) Source(i int) netip.Addr {
	span := uint32(1)<<(32-c.Sources.Bits()) - 2
	b := c.Sources.Masked().Addr().As4()
	n := binary.BigEndian.Uint32(b[:]) + 1 + uint32(i)%span
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// SourceList returns the client's first n source addresses.
func (c *Client) SourceList(n int) []netip.Addr {
	list := make([]netip.Addr, n)
	for i := range list {
		list[i] = c.Source(i)
	}
	return list
}

// SourcesApart returns n of the client's source addresses, spread over its
// whole network.
func (c *Client) SourcesApart(n int) []netip.Addr {
	step := (1<<(32-c.Sources.Bits()) - 2) / n
	list := make([]netip.Addr, n)
	for i := range list {
		list[i] = c.Source(i * step)
	}
	return list
}

// Behind has the nodes send to an IPv6 network by way of the client, which has
// none of its addresses: what comes is dropped.
func (c *Client) Behind(l *Lab, network netip.Prefix) error {
	for _, n := range l.Nodes {
		err := n.Do(func() error { return routesVia(c.Port.Addr, c.Port.IPv6, network) })
		if err != nil {
			return fmt.Errorf("route from %s: %w", n.Name, err)
		}
	}
	return nil
}

// AddAddress gives the client one more address on the segment.
func (c *Client) AddAddress(prefix string) error { return c.Port.add(c.Namespace, prefix) }

// newClient builds the number-th client, counted from zero.
func newClient(segment *Segment, number int) (*Client, error) {
	c := &Client{Sources: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(9 + number), 0, 0}), 16)}
	var err error
	if c.Namespace, err = NewNamespace(fmt.Sprintf("c%d", number+1)); err != nil {
		return nil, err
	}
	if c.Port, err = segment.plug(c.Namespace, byte(101+number)); err != nil {
		c.Close()
		return nil, err
	}
	if err = c.Do(c.ownSources); err != nil {
		c.Close()
		return nil, fmt.Errorf("give %s its sources: %w", c.Name, err)
	}
	return c, nil
}

// ownSources makes every source address local (AnyIP). ARP requests must ask
// in the name of the address on the segment, not of a source.
func (c *Client) ownSources() error {
	if err := writeSysctl("net/ipv4/conf/all/arp_announce", "2"); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{
		LinkIndex: lo.Attrs().Index, Dst: ipNet(c.Sources), Table: unix.RT_TABLE_LOCAL,
		Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST,
	})
}

// routeTo lets the current namespace send to a client's sources.
func (c *Client) routeTo() error {
	return netlink.RouteAdd(&netlink.Route{Dst: ipNet(c.Sources), Gw: c.Port.Addr.AsSlice()})
}
