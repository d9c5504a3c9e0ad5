package nft

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"earshot/hashmode"
	"earshot/nft/nfttest"
)

// taken tells if the interface takes frames to a unicast MAC.
func (w *world) taken(mac net.HardwareAddr) (found bool) {
	w.node.Do(func() {
		link, err := netlink.LinkByName("eth1")
		must(w.t, err)
		all, err := netlink.NeighListExecute(netlink.Ndmsg{Family: unix.AF_BRIDGE, Index: uint32(link.Attrs().Index)})
		must(w.t, err)
		for _, n := range all {
			found = found || bytes.Equal(n.HardwareAddr, mac)
		}
	})
	return found
}

// Frames to the stealth MAC become ours at netdev ingress, TCP included;
// those to another unicast MAC stay others'.
func TestStealth(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		w.serve()
		w.clusterMAC = StealthMAC
		s := stealthy(webOf(v6, buckets(0, 7), hashmode.Set{}, hashmode.Set{}))
		p := w.plane()
		leased(t, p, 1, s)
		o := w.observer()
		mine, foreign := clientOfIP(v6, s.Hash, 3, 0), clientOfIP(v6, s.Hash, 9, 0)
		w.handshake(o, mine)
		if o.passed(tcp(foreign, nfttest.SYN)) != 0 {
			t.Error("a foreign frame passed")
		}
		before, _ := o.counters()
		w.sendTo(net.HardwareAddr{2, 0, 0, 0, 0, 9}, udp(mine, 80))
		o.passed(tcp(foreign, nfttest.SYN))
		if after, _ := o.counters(); after != before {
			t.Error("a frame to another host was taken")
		}
	})
}

// A service changes its mode: the MAC of the other one goes, and Flush finds
// what there is, with and without tables.
func TestStealthComesAndGoes(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		empty := w.traces()
		p := w.plane()
		s := webOf(v6, all16(), hashmode.Set{}, hashmode.Set{})
		for i, mode := range []Service{s, stealthy(s), s, stealthy(s)} {
			must(t, p.Apply(Ruleset{Index: uint64(i), Services: []Service{mode}}))
			multicast := strings.Contains(w.traces(), strings.ReplaceAll(s.MAC.String(), ":", ""))
			if want := stealth(mode.MAC); w.taken(StealthMAC(s.Address)) != want || multicast == want {
				t.Fatalf("step %d: stealth MAC %v, multicast MAC %v", i, w.taken(StealthMAC(s.Address)), multicast)
			}
		}
		w.flushRuleset()
		w.node.Do(func() {
			_, err := Flush(p.log)
			must(t, err)
		})
		if w.taken(StealthMAC(s.Address)) || w.traces() != empty {
			t.Errorf("left behind: %s (was %s)", w.traces(), empty)
		}
	})
}

// An interface that takes no second MAC is told, and keeps no other service
// from being served.
func TestStealthNeedsTheInterface(t *testing.T) {
	w := newWorld(t)
	w.node.Do(func() {
		parent, err := netlink.LinkByName("eth1")
		must(t, err)
		must(t, netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: netlink.LinkAttrs{Name: "mv1", ParentIndex: parent.Attrs().Index}, Mode: netlink.MACVLAN_MODE_BRIDGE}))
	})
	s := stealthy(other())
	s.Interface = "mv1"
	err := w.plane().Apply(Ruleset{Index: 1, Services: []Service{s, ownAll()}})
	var unsupported *UnsupportedError
	if !errors.As(err, &unsupported) || !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("error %v", err)
	}
	if traces := w.traces(); !strings.Contains(traces, shared().String()) || strings.Contains(traces, s.Address.String()) {
		t.Errorf("traces %s", traces)
	}
}
