package nft

import (
	"net"
	"testing"
	"time"

	"github.com/mdlayher/ethernet"
	"github.com/vishvananda/netlink"

	"earshot/hashmode"
)

// Announcements carry the cluster MAC in the payload alone, and a client that
// had the address elsewhere believes them.
func TestAnnounce(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		p := w.plane()
		service := webOf(v6, all16(), hashmode.Set{}, hashmode.Set{})
		leased(t, p, 1, service)
		w.believe(service.Address, net.HardwareAddr{2, 0, 0, 0, 0, 9})
		conn, _ := w.raw()
		must(t, p.Announce([]Service{service}))
		buf := make([]byte, 2000)
		must(t, conn.SetReadDeadline(time.Now().Add(5*time.Second)))
		for want := map[bool]int{false: 2, true: 1}[v6]; want > 0; {
			n, _, err := conn.ReadFrom(buf)
			must(t, err)
			var frame ethernet.Frame
			must(t, frame.UnmarshalBinary(buf[:n]))
			if (frame.EtherType == ethernet.EtherTypeIPv6) != v6 {
				continue
			}
			mac := asker{address: address{Addr: service.Address}}.claim(frame)
			if mac == nil {
				continue
			}
			want--
			if frame.Source.String() != w.nodeMAC.String() || mac.String() != service.MAC.String() {
				t.Errorf("frame from %s says %s", frame.Source, mac)
			}
		}
		eventually(t, "the client's cache", func() bool { return w.neighbour(service.Address) == service.MAC.String() })
	})
}

// What the kernel announces by itself, here since the interface has a new MAC
// and the host is set to tell, has the cluster MAC, too.
func TestKernelAnnounces(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		service := webOf(v6, all16(), hashmode.Set{}, hashmode.Set{})
		leased(t, w.plane(), 1, service)
		w.believe(service.Address, net.HardwareAddr{2, 0, 0, 0, 0, 9})
		setting := map[bool]string{false: "ipv4/conf/eth1/arp_notify", true: "ipv6/conf/eth1/ndisc_notify"}[v6]
		w.node.Do(func() {
			must(t, writeInt("/proc/sys/net/"+setting, 1))
			link, err := netlink.LinkByName("eth1")
			must(t, err)
			must(t, netlink.LinkSetHardwareAddr(link, net.HardwareAddr{2, 0, 0, 0, 0, 1}))
		})
		eventually(t, "the client's cache", func() bool { return w.neighbour(service.Address) == service.MAC.String() })
	})
}

// A peer's announcement makes no kernel warn of a duplicate address; that of
// a stranger still does.
func TestPeersAnnouncementIsNoDuplicate(t *testing.T) {
	w := newWorld(t)
	service := webOf(true, all16(), hashmode.Set{}, hashmode.Set{})
	leased(t, w.plane(), 1, service)
	announce := func(mac net.HardwareAddr) {
		w.client.Do(func() { must(t, announce(address{Addr: service.Address, Interface: "c1", MAC: mac})) })
	}
	dropped := func() uint64 { return w.dropped("a peer announces " + service.Address.String()) }
	announce(net.HardwareAddr{2, 0, 0, 0, 0, 9})
	announce(service.MAC)
	eventually(t, "a dropped announcement", func() bool { return dropped() > 0 })
	if n := dropped(); n != 1 {
		t.Errorf("%d announcements dropped", n)
	}
}
