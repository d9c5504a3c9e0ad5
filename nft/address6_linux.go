package nft

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"time"

	route "github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nlenc"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// IPv6 addresses have no label. Ours have a metric that nobody else gives
// them, which the kernel keeps and, since they make no route, does not use.
const metricMark = 7440

// list6 lists all IPv6 addresses; ours with the label that ours would have.
func (p *Plane) list6() ([]netlink.Addr, error) {
	request := route.Message{
		Header: route.Header{Type: unix.RTM_GETADDR, Flags: route.Request | route.Dump},
		Data:   addressHeader(0, 0),
	}
	answers, err := p.route(request)
	if err != nil {
		return nil, err
	}
	var all []netlink.Addr
	for _, m := range answers {
		if m.Header.Type != unix.RTM_NEWADDR || len(m.Data) < unix.SizeofIfAddrmsg {
			continue
		}
		a, err := parseAddress6(m.Data)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

func parseAddress6(data []byte) (netlink.Addr, error) {
	a := netlink.Addr{Scope: int(data[3]), LinkIndex: int(nlenc.Uint32(data[4:8])), IPNet: &net.IPNet{Mask: net.CIDRMask(int(data[1]), 128)}}
	ad, err := route.NewAttributeDecoder(data[unix.SizeofIfAddrmsg:])
	if err != nil {
		return a, err
	}
	var local net.IP // of an address that has a peer
	metric := uint32(0)
	for ad.Next() {
		switch ad.Type() {
		case unix.IFA_ADDRESS:
			a.IP = ad.Bytes()
		case unix.IFA_LOCAL:
			local = ad.Bytes()
		case unix.IFA_FLAGS:
			a.Flags = int(ad.Uint32())
		case unix.IFA_RT_PRIORITY:
			metric = ad.Uint32()
		}
	}
	if local != nil {
		a.IP = local
	}
	const want = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
	if metric == metricMark && a.Flags&want == want {
		a.Label = labelSuffix[1:]
	}
	return a, ad.Err()
}

// add6 gives an interface a shared address: without duplicate address
// detection, which would fail on the second node; deprecated from the start,
// so that source selection avoids it.
func (p *Plane) add6(index int, addr netip.Addr) error {
	ae := route.NewAttributeEncoder()
	ae.Bytes(unix.IFA_LOCAL, addr.AsSlice())
	ae.Bytes(unix.IFA_ADDRESS, addr.AsSlice())
	ae.Uint32(unix.IFA_FLAGS, unix.IFA_F_NODAD|unix.IFA_F_NOPREFIXROUTE)
	ae.Uint32(unix.IFA_RT_PRIORITY, metricMark)
	preferred, valid := nlenc.Uint32Bytes(0), nlenc.Uint32Bytes(math.MaxUint32)
	ae.Bytes(unix.IFA_CACHEINFO, append(append(preferred, valid...), make([]byte, 8)...))
	attributes, err := ae.Encode()
	if err != nil {
		return err
	}
	_, err = p.route(route.Message{
		Header: route.Header{Type: unix.RTM_NEWADDR, Flags: route.Request | route.Acknowledge | route.Create | route.Excl},
		Data:   append(addressHeader(128, index), attributes...),
	})
	if err == nil {
		p.awaitLocal(addr)
	}
	return err
}

// awaitLocal waits until packets to the address are the node's own: the
// kernel adds the route after its answer, in a worker. Before that it would
// forward them, or drop them. An interface that is down gets no route, so that
// the wait is bounded.
func (p *Plane) awaitLocal(addr netip.Addr) {
	for deadline := time.Now().Add(localWait); time.Now().Before(deadline); <-time.After(time.Millisecond) {
		routes, err := p.links.RouteGet(addr.AsSlice())
		if err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
			return
		}
	}
}

// localWait is ten times what it took on a busy machine.
const localWait = 100 * time.Millisecond

// addressHeader is struct ifaddrmsg.
func addressHeader(length byte, index int) []byte {
	return append([]byte{unix.AF_INET6, length, 0, 0}, nlenc.Uint32Bytes(uint32(index))...)
}

// route sends a message to the kernel's rtnetlink.
func (p *Plane) route(m route.Message) (answers []route.Message, err error) {
	err = p.ns.do(func() error {
		c, err := route.Dial(unix.NETLINK_ROUTE, nil)
		if err != nil {
			return fmt.Errorf("open route connection: %w", err)
		}
		defer c.Close()
		answers, err = c.Execute(m)
		return err
	})
	return answers, err
}
