package nft

import (
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"earshot/hashmode"
)

// harms are what happens to a shared address on a host.
func harms() map[string]func(t testing.TB, link netlink.Link, a net.IP) {
	return map[string]func(testing.TB, netlink.Link, net.IP){
		"removed": func(t testing.TB, link netlink.Link, a net.IP) {
			bits := 8 * len(a)
			must(t, netlink.AddrDel(link, &netlink.Addr{IPNet: &net.IPNet{IP: a, Mask: net.CIDRMask(bits, bits)}}))
		},
		"link down and up": func(t testing.TB, link netlink.Link, _ net.IP) { // IPv6 addresses go
			must(t, netlink.LinkSetDown(link))
			must(t, netlink.LinkSetUp(link))
		},
	}
}

// A shared address that is lost is told and comes back, as does what the
// kernel would tell others of it.
func TestAddressComesBack(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		for name, harm := range harms() {
			t.Run(name, func(t *testing.T) {
				w := newWorld(t)
				p := w.plane()
				rs := Ruleset{Index: 1, Services: []Service{webOf(v6, all16(), hashmode.Set{}, hashmode.Set{})}}
				leased(t, p, 1, rs.Services...)
				changes := w.watch(p)
				w.node.Do(func() {
					link, err := netlink.LinkByName("eth1")
					must(t, err)
					harm(t, link, sharedOf(v6).AsSlice())
				})
				w.next(changes)
				eventually(t, "the address", func() bool {
					select {
					case <-changes: // more of the same: the last one counts
					default:
					}
					must(t, p.Apply(rs))
					return strings.Contains(w.traces(), sharedOf(v6).String())
				})
			})
		}
	})
}

// The IPv6 address is one that source selection avoids, that no other node's
// having it makes fail, and that packets may go to as soon as it is there.
func TestIPv6Address(t *testing.T) {
	for range 20 { // the kernel's worker is quick at times
		w := newWorld(t)
		p := w.plane()
		must(t, p.Apply(Ruleset{Index: 1, Services: []Service{webOf(true, all16(), hashmode.Set{}, hashmode.Set{})}}))
		routes, err := p.links.RouteGet(sharedOf(true).AsSlice())
		must(t, err)
		if len(routes) != 1 || routes[0].Type != unix.RTN_LOCAL {
			t.Fatalf("routes %v", routes)
		}
		addrs, _, err := p.listAddresses()
		must(t, err)
		for _, a := range addrs {
			if addrOf(a) != sharedOf(true) {
				continue
			}
			const want = unix.IFA_F_NODAD | unix.IFA_F_DEPRECATED | unix.IFA_F_PERMANENT | unix.IFA_F_NOPREFIXROUTE
			if ones, _ := a.Mask.Size(); ones != 128 || a.Flags != want || !ours(a) {
				t.Fatalf("address %v, flags %x, ours %v", a, a.Flags, ours(a))
			}
		}
	}
}

// The shared address of another program looks the same, but for the mark.
func TestIPv6AddressOfOthersIsRefused(t *testing.T) {
	w := newWorld(t)
	w.node.Do(func() {
		link, err := netlink.LinkByName("eth1")
		must(t, err)
		must(t, netlink.AddrAdd(link, &netlink.Addr{
			IPNet: &net.IPNet{IP: sharedOf(true).AsSlice(), Mask: net.CIDRMask(128, 128)},
			Flags: unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE, ValidLft: 1 << 30,
		}))
	})
	before := w.traces()
	if bad := worst(w.probe(webOf(true, all16(), hashmode.Set{}, hashmode.Set{}))); len(bad) != 1 {
		t.Errorf("findings %+v", bad)
	}
	w.node.Do(func() {
		_, err := Flush(w.plane().log)
		must(t, err)
	})
	if w.traces() != before {
		t.Errorf("Flush left %s of %s", w.traces(), before)
	}
}
