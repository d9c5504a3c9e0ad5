package nft

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"earshot/hashmode"
	"earshot/nft/nfttest"
)

// setDisabled has eth1 without IPv6, or with it again.
func (w *world) setDisabled(value string) {
	w.node.Do(func() { must(w.t, os.WriteFile("/proc/sys/net/ipv6/conf/eth1/disable_ipv6", []byte(value), 0)) })
}

// A service that this node cannot carry costs it that service alone: the map
// counts as held, the others are served and follow later maps, and of this one
// nobody is answered. When it can be carried, it is.
func TestAServiceThatCannotBeCarriedCostsItself(t *testing.T) {
	for name, c := range map[string]struct {
		spoil, mend func(*world, *Service)
		why         error // nil: whatever the kernel says
	}{
		"no interface": {
			func(_ *world, s *Service) { s.Interface = "eth2" },
			func(w *world, _ *Service) { nfttest.Veth(w.node, "eth2", w.client, "c2") }, ErrNoInterface,
		},
		"own address": {
			func(w *world, s *Service) { w.node.Address("eth1", s.Address.String()+"/24") },
			func(w *world, s *Service) {
				w.node.Do(func() {
					link, err := netlink.LinkByName("eth1")
					must(w.t, err)
					addr, err := netlink.ParseAddr(s.Address.String() + "/24")
					must(w.t, err)
					must(w.t, netlink.AddrDel(link, addr))
				})
			}, ErrOwnAddress,
		},
		"no IPv6": {
			func(w *world, s *Service) {
				*s = webOf(true, all16(), hashmode.Set{}, hashmode.Set{})
				w.setDisabled("1")
			},
			func(w *world, _ *Service) { w.setDisabled("0") }, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.serveEcho()
			p := w.plane()
			bad := ownAll()
			c.spoil(w, &bad)
			good := other()
			refused := func(index uint64) {
				t.Helper()
				err := p.Apply(Ruleset{Index: index, Services: []Service{bad, good}})
				var partial *PartialError
				if !errors.As(err, &partial) || len(partial.Services) != 1 || partial.Services[bad.Name] == nil || c.why != nil && !errors.Is(err, c.why) {
					t.Fatalf("map %d: error %v", index, err)
				}
				if held, _, err := p.Held(); held != index || err != nil {
					t.Fatalf("the kernel holds map %d, %v", held, err)
				}
			}
			refused(1)
			must(t, p.Lease(time.Now().Add(time.Hour)))
			w.mustServe(good.Address)
			good.Own = buckets(0, 31)
			refused(2) // without a look at all that there is
			if got := w.kernel().buckets[setID{inet, setOwn(good.Name)}]; !got.Equal(good.Own) {
				t.Errorf("the other service's buckets are %v", got)
			}
			if strings.Contains(w.traces(), bad.Address.String()+"/32") || strings.Contains(w.traces(), bad.Address.String()+"/128") {
				t.Errorf("the address is there: %s", w.traces())
			}
			good.Own = buckets(0, 63)
			p.Resync()
			refused(3)
			if n := p.Repairs(); n != 0 {
				t.Errorf("%d repairs", n)
			}
			c.mend(w, &bad)
			p.Resync()
			rs := Ruleset{Index: 4, Services: []Service{bad, good}}
			must(t, p.Apply(rs))
			w.mustHold(rs)
			w.mustServe(good.Address)
			if !strings.Contains(w.traces(), bad.Address.String()) {
				t.Errorf("the address is not there: %s", w.traces())
			}
		})
	}
}

// mustServe has a client connect to port 80 of an address.
func (w *world) mustServe(a netip.Addr) {
	w.t.Helper()
	w.client.Do(func() {
		c, err := net.DialTimeout("tcp", netip.AddrPortFrom(a, 80).String(), 5*time.Second)
		if err != nil {
			w.t.Error(err)
			return
		}
		must(w.t, c.Close())
	})
}

// An address leaves the interface that it is not to be on any more though the
// one that it is to be on is not there, and nobody knows where it was.
func TestAnAddressLeavesForAnInterfaceThatIsNotThere(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	s := ownAll()
	leased(t, p, 1, s)
	w.flushRuleset()
	s.Interface = "eth9"
	p.Resync()
	if err := p.Apply(Ruleset{Index: 2, Services: []Service{s}}); !errors.Is(err, ErrNoInterface) {
		t.Fatalf("error %v", err)
	}
	if strings.Contains(w.traces(), s.Address.String()) {
		t.Errorf("left behind: %s", w.traces())
	}
}

// A list that is spoilt by whoever makes and removes other interfaces says
// nothing of what this node can carry.
func TestOthersInterfacesAreNoReasonToRefuse(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	leased(t, p, 1, ownAll(), other())
	stop, stopped := make(chan struct{}), make(chan struct{})
	w.node.Do(func() {
		h, err := netlink.NewHandle()
		must(t, err)
		pair := func(name string) netlink.Link {
			return &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "p"}
		}
		for i := range 40 { // a list in several parts
			must(t, h.LinkAdd(pair(fmt.Sprintf("many%d", i))))
		}
		go func() {
			defer close(stopped)
			defer h.Close()
			for {
				select {
				case <-stop:
					return
				default:
				}
				for i := range 3 {
					link := pair(fmt.Sprintf("x%d", i))
					_ = h.LinkAdd(link)
					_ = h.LinkSetUp(link)
					_ = h.LinkDel(link)
				}
			}
		}()
	})
	for i := range uint64(200) {
		p.Resync()
		if err := p.Apply(Ruleset{Index: i + 2, Services: []Service{ownAll(), other()}}); err != nil {
			t.Errorf("map %d: %v", i+2, err)
			break
		}
	}
	close(stop)
	<-stopped
}
