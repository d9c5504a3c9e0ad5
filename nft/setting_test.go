package nft

import (
	"testing"

	"github.com/vishvananda/netlink"

	"earshot/hashmode"
)

// announcing reads arp_announce of the node's eth1.
func (w *world) announcing() (v int) {
	w.t.Helper()
	w.node.Do(func() {
		var err error
		v, err = readInt(arpAnnouncePath("eth1"))
		must(w.t, err)
	})
	return v
}

// announce writes it.
func (w *world) announce(v int) {
	w.t.Helper()
	w.node.Do(func() { must(w.t, writeInt(arpAnnouncePath("eth1"), v)) })
}

// ARP requests are to carry the node's own address; afterwards the setting is
// what it was before, whichever process removes the service, and though others
// have flushed our tables meanwhile.
func TestARPAnnounceIsRaisedAndRestored(t *testing.T) {
	served, none := Ruleset{Index: 1, Services: []Service{ownAll(), other()}}, Ruleset{Index: 2}
	ends := map[string]func(*world, *Plane){
		"service removed": func(w *world, p *Plane) { must(w.t, p.Apply(none)) },
		"by another process": func(w *world, _ *Plane) {
			p := w.plane()
			must(w.t, p.Apply(served))
			must(w.t, p.Apply(none))
		},
		"flush": func(w *world, _ *Plane) {
			w.node.Do(func() {
				_, err := Flush(w.plane().log)
				must(w.t, err)
			})
		},
		"tables lost": func(w *world, p *Plane) {
			w.flushRuleset()
			p.Resync()
			must(w.t, p.Apply(served))
			w.node.Do(func() {
				_, err := Flush(p.log)
				must(w.t, err)
			})
		},
	}
	for name, end := range ends {
		for _, before := range []int{0, 1, 2} {
			t.Run(name, func(t *testing.T) {
				w := newWorld(t)
				w.announce(before)
				p := w.plane()
				must(t, p.Apply(served))
				if got := w.announcing(); got != 2 {
					t.Errorf("arp_announce is %d", got)
				}
				end(w, p)
				if got := w.announcing(); got != before {
					t.Errorf("arp_announce was %d before and is %d after", before, got)
				}
			})
		}
	}
}

// What others have set since is theirs.
func TestARPAnnounceOfOthersStays(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	must(t, p.Apply(Ruleset{Index: 1, Services: []Service{ownAll()}}))
	w.announce(1)
	must(t, p.Apply(Ruleset{Index: 2}))
	if got := w.announcing(); got != 1 {
		t.Errorf("arp_announce is %d, others had set it to 1", got)
	}
}

// Of these the kernel tells nothing, or not in words about the address: Watch
// notices, and Apply mends.
func TestQuietChangesAreNoticed(t *testing.T) {
	mac := func(t *testing.T, p *Plane, s Service) {
		gone, err := p.removeMAC(place{s.Interface, s.MAC})
		if !gone || err != nil {
			t.Fatalf("remove MAC: %v, %v", gone, err)
		}
	}
	for name, c := range map[string]struct {
		service Service
		harm    func(t *testing.T, w *world, p *Plane, s Service)
	}{
		"multicast MAC":  {ownAll(), func(t *testing.T, _ *world, p *Plane, s Service) { mac(t, p, s) }},
		"IPv6 multicast": {webOf(true, all16(), hashmode.Set{}, hashmode.Set{}), func(t *testing.T, _ *world, p *Plane, s Service) { mac(t, p, s) }},
		"stealth MAC":    {stealthy(ownAll()), func(t *testing.T, _ *world, p *Plane, s Service) { mac(t, p, s) }},
		"arp_announce":   {ownAll(), func(_ *testing.T, w *world, _ *Plane, _ Service) { w.announce(0) }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p := w.plane()
			rs := Ruleset{Index: 1, Services: []Service{c.service}}
			leased(t, p, 1, rs.Services...)
			changes := w.watch(p)
			must(t, p.Apply(rs))
			if lost := p.missing(); lost != "" {
				t.Fatalf("missing before anything was harmed: %s", lost)
			}
			c.harm(t, w, p, c.service)
			w.next(changes)
			must(t, p.Apply(rs))
			if lost := p.missing(); lost != "" {
				t.Errorf("still missing: %s", lost)
			}
		})
	}
}

// An interface with another MAC sends other frames: the address is to be
// announced again.
func TestAnotherMACIsTold(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	leased(t, p, 1, ownAll())
	changes := w.watch(p)
	must(t, p.Apply(Ruleset{Index: 1, Services: []Service{ownAll()}}))
	w.node.Do(func() {
		link, err := netlink.LinkByName("eth1")
		must(t, err)
		must(t, netlink.LinkSetHardwareAddr(link, StealthMAC(shared())))
	})
	w.next(changes)
}
