package nft

import (
	"encoding/hex"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/ndp"
	"github.com/vishvananda/netlink"

	"earshot/hashmode"
)

// take gives the client the shared address, as a host that knows nothing of
// the cluster; it tells nobody. It returns when the client hears questions
// about it, for which IPv6 has a group that the kernel joins a little later.
func (w *world) take(v6 bool) {
	w.t.Helper()
	w.client.Address("c1", sharedOf(v6).String()+map[bool]string{false: "/24", true: "/64"}[v6])
	if !v6 {
		return
	}
	group, err := ndp.SolicitedNodeMulticast(sharedOf(true))
	must(w.t, err)
	eventually(w.t, "the client in the group", func() (joined bool) {
		w.client.Do(func() {
			text, err := os.ReadFile("/proc/thread-self/net/igmp6")
			must(w.t, err)
			joined = strings.Contains(string(text), hex.EncodeToString(group.AsSlice()))
		})
		return joined
	})
}

// A host that has the address answers the next question, and is told of, with
// its MAC. So is one that comes while Watch runs and speaks for itself.
func TestStrangersAreNoticed(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		for name, speaks := range map[string]bool{"silent": false, "announces": true} {
			t.Run(name, func(t *testing.T) {
				w := newWorld(t)
				p := w.plane()
				s := webOf(v6, all16(), hashmode.Set{}, hashmode.Set{})
				leased(t, p, 1, s)
				if !speaks {
					w.take(v6)
				}
				w.watch(p)
				if speaks {
					if got := p.Strangers(); len(got) > 0 {
						t.Fatalf("strangers before one came: %v", got)
					}
					w.take(v6)
					w.claimAs(s, w.clientMAC)
				}
				eventually(t, "the stranger", func() bool {
					got := p.Strangers()
					return len(got) == 1 && got[0].Address == s.Address && got[0].Interface == "eth1" && got[0].MAC.String() == w.clientMAC.String()
				})
			})
		}
	})
}

// claimAs announces, from the client, that the address is at the MAC.
func (w *world) claimAs(s Service, mac net.HardwareAddr) {
	w.t.Helper()
	w.client.Do(func() {
		a, err := newAsker(address{Addr: s.Address, Interface: "c1", MAC: mac})
		must(w.t, err)
		defer a.conn.Close()
		must(w.t, a.announce())
	})
}

// Peers answer, too, with the cluster MAC; and one that says its own while its
// rules are repaired is heard once.
func TestPeersAreNoStrangers(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		p := w.plane()
		s := webOf(v6, all16(), hashmode.Set{}, hashmode.Set{})
		leased(t, p, 1, s)
		w.watch(p)
		eventually(t, "the client heard once", func() bool {
			w.claimAs(s, s.MAC)
			w.claimAs(s, w.clientMAC)
			p.strangers.mu.Lock()
			defer p.strangers.mu.Unlock()
			return len(p.strangers.seen) == 1
		})
		if got := p.Strangers(); len(got) > 0 {
			t.Errorf("strangers: %v", got)
		}
	})
}

// A sentry whose interface goes is relieved by another when it is back.
func TestSentriesComeBack(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	leased(t, p, 1, ownAll())
	w.watch(p)
	w.take(false)
	w.node.Do(func() {
		link, err := netlink.LinkByName("eth1")
		must(t, err)
		must(t, netlink.LinkSetDown(link))
		must(t, netlink.LinkSetUp(link))
	})
	eventually(t, "the stranger", func() bool { return len(p.Strangers()) == 1 })
}

func TestSightings(t *testing.T) {
	at, other := post{addr: shared(), ifname: "eth1"}, post{addr: sharedOf(true), ifname: "eth1"}
	one, two := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	start := time.Unix(1000, 0)
	s := &sightings{seen: map[post]sighting{}}
	hear := func(after time.Duration, mac net.HardwareAddr, want bool) {
		t.Helper()
		if s.hear(at, mac, start.Add(after)) != want {
			t.Errorf("%s after %v: counts from now on: %v", mac, after, !want)
		}
	}
	hear(0, one, false)
	hear(confirmAfter/2, one, false)
	hear(confirmAfter, two, false) // another one: begins anew
	hear(3*confirmAfter, two, true)
	hear(4*confirmAfter, two, false) // told once
	hear(5*confirmAfter, one, false)
	told := func() int { return len((&Plane{strangers: sightings{seen: s.seen}}).Strangers()) }
	stays := start.Add(5*confirmAfter + forgetAfter - 1)
	if gone := s.forget(map[post]bool{at: true}, stays); len(gone) > 0 || told() != 1 {
		t.Errorf("forgotten too early: %v", gone)
	}
	if gone := s.forget(map[post]bool{at: true}, stays.Add(1)); len(gone) != 1 || gone[0].MAC.String() != two.String() || told() != 0 {
		t.Errorf("not forgotten: %v", gone)
	}
	s.hear(other, one, start)
	s.hear(other, one, start.Add(confirmAfter))
	if gone := s.forget(map[post]bool{at: true}, start.Add(confirmAfter)); len(gone) != 1 || told() != 0 {
		t.Errorf("a service that is no more: %v", gone)
	}
	if s.patience(at) != askEvery {
		t.Error("asked often, though nobody was heard")
	}
	s.hear(at, one, start)
	if s.patience(at) != confirmAfter {
		t.Error("a host that was heard once is not asked for again soon")
	}
	if gone := s.forget(map[post]bool{at: true}, start.Add(doubtFor)); len(gone) > 0 || s.patience(at) != askEvery {
		t.Errorf("doubted for too long: %v", gone)
	}
}
