package nft

import (
	"encoding/hex"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"earshot/hashmode"
	"earshot/nft/nfttest"
)

// isMember reports whether the node is in the group of a MAC, on eth1: its
// other interface, lo, is in none of ours.
func (w *world) isMember(mac net.HardwareAddr) bool {
	w.t.Helper()
	file, group := "igmp", GroupOf(mac).AsSlice()
	if GroupOf(mac).Is6() {
		file += "6"
	} else { // as a number in the machine's byte order
		group = host32(uint32(group[0])<<24 | uint32(group[1])<<16 | uint32(group[2])<<8 | uint32(group[3]))
	}
	var text []byte
	w.node.Do(func() {
		var err error
		text, err = os.ReadFile("/proc/thread-self/net/" + file)
		must(w.t, err)
	})
	return strings.Contains(strings.ToLower(string(text)), hex.EncodeToString(group))
}

// The node is in the group that the cluster MAC maps to, so that switches
// which snoop learn where the MAC is wanted: as long as the service is there,
// also on an interface that was made anew, and no longer than the process.
func TestMembership(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		var p *Plane
		w.node.Do(func() {
			var err error
			p, err = Open(slog.New(slog.DiscardHandler))
			must(t, err)
		})
		s := webOf(v6, all16(), hashmode.Set{}, hashmode.Set{})
		with, without := Ruleset{Index: 1, Services: []Service{s}}, Ruleset{Index: 1, Services: []Service{stealthy(s)}}
		expect := func(what string, want bool) {
			t.Helper()
			if w.isMember(s.MAC) != want {
				t.Fatalf("%s: member is %v", what, !want)
			}
		}
		expect("before", false)
		must(t, p.Apply(with))
		expect("served", true)
		must(t, p.Apply(without))
		expect("stealth", false)
		must(t, p.Apply(with))
		w.node.Do(func() {
			link, err := netlink.LinkByName("eth1")
			must(t, err)
			must(t, netlink.LinkDel(link))
		})
		nfttest.Veth(w.node, "eth1", w.client, "c1")
		p.Resync()
		must(t, p.Apply(with))
		expect("interface made anew", true)
		must(t, p.Close())
		expect("closed", false)
	})
}

func TestGroups(t *testing.T) {
	for mac, want := range map[string]string{
		"01:00:5e:28:38:14": "239.40.56.20",
		"01:00:5e:80:00:01": "invalid IP",
		"33:33:80:00:00:20": "ff15::8000:20",
		"03:bf:c0:a8:38:14": "invalid IP",
		"02:04:c0:a8:38:14": "invalid IP",
	} {
		hw, err := net.ParseMAC(mac)
		must(t, err)
		if got := GroupOf(hw).String(); got != want {
			t.Errorf("%s: %s, want %s", mac, got, want)
		}
	}
}
