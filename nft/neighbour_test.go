package nft

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"earshot/hashmode"
)

// A neighbour that was asked for in vain while the cable was out is forgotten
// when it is in: here the kernel would wait for an answer for an hour.
func TestNeighboursAreAskedForAnew(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		p := w.plane()
		must(t, p.Apply(Ruleset{Index: 1, Services: []Service{web(hashmode.Set{}, hashmode.Set{}, hashmode.Set{})}}))
		w.watch(p)
		peer := pick(v6, "192.168.56.2", "fd56::2")
		var link netlink.Link
		w.node.Do(func() {
			version := map[bool]string{false: "ipv4", true: "ipv6"}[v6]
			must(t, writeInt("/proc/sys/net/"+version+"/neigh/eth1/retrans_time_ms", 3_600_000))
			var err error
			link, err = netlink.LinkByName("eth1")
			must(t, err)
		})
		call := func() {
			w.node.Do(func() {
				conn, err := net.Dial("udp", netip.AddrPortFrom(peer, 9).String())
				must(t, err)
				defer conn.Close()
				_, _ = conn.Write([]byte("hello"))
			})
		}
		state := func() (state int) {
			w.node.Do(func() {
				all, err := netlink.NeighList(link.Attrs().Index, netlink.FAMILY_ALL)
				must(t, err)
				for _, n := range all {
					if n.IP.String() == peer.String() {
						state = n.State
					}
				}
			})
			return state
		}
		plugged := func(in bool) {
			w.client.Do(func() {
				c1, err := netlink.LinkByName("c1")
				must(t, err)
				if !in {
					must(t, netlink.LinkSetDown(c1))
					return
				}
				addr := &netlink.Addr{IPNet: &net.IPNet{IP: peer.AsSlice(), Mask: net.CIDRMask(peer.BitLen(), peer.BitLen())}, Flags: unix.IFA_F_NODAD}
				must(t, netlink.AddrAdd(c1, addr))
				must(t, netlink.LinkSetUp(c1))
			})
		}
		plugged(false)
		eventually(t, "no carrier", func() bool {
			heard, err := p.Carrier("eth1")
			must(t, err)
			return !heard
		})
		call()
		if got := state(); got != unix.NUD_INCOMPLETE {
			t.Fatalf("asked for with the cable out: state %#x", got)
		}
		plugged(true)
		eventually(t, "the peer is to be asked for anew", func() bool { return state() == 0 })
	})
}
