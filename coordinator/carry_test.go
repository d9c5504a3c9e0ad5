package coordinator

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"earshot/nft"
	"earshot/raftstore"
)

var errNoNIC = fmt.Errorf("interface eht1: %w", nft.ErrNoInterface)

// cannot has the kernel carry a service no more, or again if why is nil. Nobody
// tells the agent.
func (k *modelKernel) cannotCarry(service string, why error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cannot = map[string]error{}
	if why != nil {
		k.cannot[service] = why
	}
}

// owned counts the buckets of a service that a node owns by the map.
func (s *single) owned(service, node string) (n int) {
	for _, slot := range s.store.State().Services[service].Map {
		if slot.Owner == node {
			n++
		}
	}
	return n
}

// leased fails unless node a has its lease.
func (s *single) leased(t *testing.T, when string) {
	t.Helper()
	if left, _ := s.kernel.LeaseLeft(); left == 0 {
		t.Errorf("%s: no lease", when)
	}
	if s.store.State().Nodes["a"].Failed {
		t.Errorf("%s: dead", when)
	}
}

// A service that a node cannot carry costs that node its share of that service,
// for as long as it cannot, and nothing else.
func TestAServiceThatANodeCannotCarryCostsThatServiceAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		h.join("a", 1)
		h.join("b", 1)
		h.define("web", 4)
		h.define("mail", 4)
		s := run(t, h)
		defer s.stop()
		s.spareTheSilent()
		s.news.learn(released("b", 1000)) // b follows, silently
		time.Sleep(time.Second)
		shares := func(when string, web, mail int) {
			t.Helper()
			s.leased(t, when)
			if w, m := s.owned("web", "a"), s.owned("mail", "a"); w != web || m != mail {
				t.Errorf("%s: %d buckets of web and %d of mail, want %d and %d", when, w, m, web, mail)
			}
		}
		shares("at first", 2, 2)
		s.kernel.cannotCarry("mail", errNoNIC)
		s.reconciler.drift()
		time.Sleep(5 * time.Second)
		shares("when mail cannot be carried", 2, 0)
		told := "cannot serve mail: " + errNoNIC.Error()
		if problems := strings.Join(s.problems(), "\n"); !strings.Contains(problems, told) || strings.Count(problems, "eht1") != 1 {
			t.Errorf("the status says %q", problems)
		}
		if got := s.kernel.service("mail"); !got.Own.Union(got.Inherit).Union(got.Take).Empty() {
			t.Errorf("the kernel opens %v of mail", got)
		}
		if level := s.release.told(); level < s.store.State().Services["mail"].Map[0].Since {
			t.Errorf("what was given away is not released: %d", level)
		}
		// Later maps are held, and so leases granted.
		s.store.change(func() { h.define("domain", 4) })
		time.Sleep(time.Second)
		shares("after another map", 2, 0)
		if n := s.owned("domain", "a"); n != 2 {
			t.Errorf("%d buckets of a service that came meanwhile", n)
		}
		s.kernel.mu.Lock()
		s.kernel.told = nil
		s.kernel.mu.Unlock()
		s.kernel.cannotCarry("mail", nil)
		time.Sleep(refusedRetry + time.Second)
		if !slices.Contains(s.kernel.told, "mail") {
			t.Errorf("announced again: %q", s.kernel.told)
		}
		shares("when it can be again", 2, 2)
		if problems := strings.Join(s.problems(), "\n"); strings.Contains(problems, "eht1") {
			t.Errorf("the status says %q", problems)
		}
	})
}

// A service that no node can carry, as one whose interface is mistyped, is
// served by none; the others go on, and the agents come up.
func TestAServiceThatNobodyCanCarry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		h.join("a", 1)
		h.define("web", 4)
		h.define("mail", 4)
		kernel := &modelKernel{}
		kernel.cannotCarry("mail", errNoNIC)
		s := runWith(t, h, kernel, nil)
		defer s.stop()
		time.Sleep(5 * time.Second)
		s.leased(t, "alone")
		if n := s.owned("web", "a"); n != 4 {
			t.Errorf("%d buckets of web", n)
		}
		if slices.Contains(kernel.told, "mail") {
			t.Error("the address of mail was announced")
		}
	})
}

// What says nothing of a service is a failure of all: the map is not held.
func TestAMapThatIsNotAppliedIsNotHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := lone(t)
		defer s.stop()
		held := s.held()
		s.kernel.mu.Lock()
		s.kernel.broken = errors.New("no memory")
		s.kernel.mu.Unlock()
		s.store.change(func() { s.store.history.define("mail", 4) })
		time.Sleep(100 * time.Millisecond)
		if got := s.held(); got != held {
			t.Errorf("map %d counts as held after %d", got, held)
		}
		if problems := strings.Join(s.problems(), "\n"); !strings.Contains(problems, "no memory") {
			t.Errorf("the status says %q", problems)
		}
	})
}

// An address is on one interface of a node, whatever the definitions of its
// services say: two would be no ruleset at all.
func TestAnAddressIsOnOneInterface(t *testing.T) {
	h := newHistory(t)
	h.join("a", 1)
	for name, at := range map[string]string{"a": "eth0", "bb": "eth1", "other": "eth0"} {
		d := testDefinition(name, 4)
		if d.Interface = at; name == "other" {
			d.Address = netip.MustParsePrefix("192.0.2.30/24")
		}
		h.must(raftstore.Command{Define: &raftstore.Define{Definition: d, Seed: 7}})
	}
	for _, tt := range []struct {
		own  map[string]string
		want []string // of a, bb, other
	}{
		{nil, []string{"eth0", "eth0", "eth0"}},
		{map[string]string{"bb": "lan0"}, []string{"lan0", "lan0", "eth0"}},
		{map[string]string{"a": "lan0", "bb": "lan1", "other": "lan2", "gone": "lan3"}, []string{"lan0", "lan0", "lan2"}},
	} {
		var got []string
		for _, s := range desired(h.state, "a", knowledge{interfaces: tt.own}).Services {
			got = append(got, s.Interface)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%v: on %q, want %q", tt.own, got, tt.want)
		}
	}
}

// The interfaces that a node's file names are in effect when it is read, also of
// services that the cluster has not yet. What the file does not name any more
// stays where it is: the cluster may have it still.
func TestInterfacesFollowTheFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReader(t)
		kernel := r.kernel.(*modelKernel)
		s := &single{Coordinator: r.Coordinator, kernel: kernel, store: r.store.(*modelStore)}
		defer s.begin(t)()
		name := func(service, ifname string) raftstore.Definition {
			d := testDefinition(service, 4)
			d.Interface = ifname
			d.Address = netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(len(service))}), 24)
			return d
		}
		is := func(service, want string) {
			t.Helper()
			time.Sleep(50 * time.Millisecond) // less than to the next Tick, which is a map, too
			if got := kernel.service(service).Interface; got != want {
				t.Errorf("%s is on %q, want %q", service, got, want)
			}
		}
		reload := func(all ...raftstore.Definition) {
			t.Helper()
			r.next.Services = all
			if _, err := r.Reload(); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		is("web", "eth1")
		reload(name("web", "lan0"), name("mail", "lan1"))
		is("web", "lan0")
		s.store.change(func() {
			h := s.store.history
			h.must(raftstore.Command{Define: &raftstore.Define{Definition: name("mail", "eth7"), Seed: 7}})
		})
		is("mail", "lan1")
		reload(name("web", "lan0"))
		is("mail", "lan1")
	})
}

// A mistyped interface is told before it is everybody's.
func TestApplyTellsOfAnInterfaceThatIsNotThere(t *testing.T) {
	r := newReader(t)
	r.kernel.(*modelKernel).lacks = "eht1"
	mail, web := testDefinition("mail", 4), testDefinition("web", 8)
	mail.Interface, web.Interface = "eht1", "eht1"
	r.next.Services = []raftstore.Definition{mail, web} // web is there already
	p, err := r.planApply(t.Context(), ApplyRequest{})
	if err != nil || len(p.Unserved) != 1 || p.Unserved["mail"] != errNoNIC.Error() {
		t.Errorf("got %+v, %v", p, err)
	}
}
