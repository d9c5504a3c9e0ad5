package coordinator

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"earshot/nft"
)

// lone is a node alone in its cluster, with a lease.
func lone(t *testing.T) *single {
	h := newHistory(t)
	h.join("a", 1)
	h.define("web", 16)
	s := run(t, h)
	time.Sleep(time.Second)
	s.kernel.mu.Lock()
	defer s.kernel.mu.Unlock()
	s.kernel.told = nil
	return s
}

// drifts has others change something, and returns what was announced then.
func (s *single) drifts(harm func(*modelKernel)) int {
	s.kernel.mu.Lock()
	harm(s.kernel)
	drift := s.kernel.drift
	s.kernel.mu.Unlock()
	drift()
	time.Sleep(100 * time.Millisecond)
	s.kernel.mu.Lock()
	defer s.kernel.mu.Unlock()
	told := len(s.kernel.told)
	s.kernel.told = nil
	return told
}

// What others changed may have told the segment something else: the address
// is announced again, but not by a node that is to be silent (I4), nor on an
// interface that nobody hears.
func TestMendedIsAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := lone(t)
		defer s.stop()
		if told := s.drifts(func(*modelKernel) {}); told != 1 {
			t.Errorf("announced %d times after a repair", told)
		}
		if told := s.drifts(func(k *modelKernel) { k.deaf = true }); told != 0 {
			t.Errorf("announced %d times without carrier", told)
		}
		if told := s.drifts(func(k *modelKernel) { k.deaf = false }); told != 1 {
			t.Errorf("announced %d times with carrier again", told)
		}
		s.tenant.mu.Lock()
		s.tenant.closed, s.tenant.until = true, time.Time{}
		s.tenant.mu.Unlock()
		if told := s.drifts(func(*modelKernel) {}); told != 0 {
			t.Errorf("announced %d times without a lease", told)
		}
	})
}

// A service that comes when the node has a lease already is announced, once.
func TestANewAddressIsAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		h.join("a", 1)
		s := run(t, h)
		defer s.stop()
		time.Sleep(time.Second)
		announced := func() int {
			s.kernel.mu.Lock()
			defer s.kernel.mu.Unlock()
			return len(s.kernel.told)
		}
		if n := announced(); n != 0 {
			t.Fatalf("announced %d addresses of no service", n)
		}
		s.store.change(func() { h.define("web", 16) })
		time.Sleep(time.Second)
		if n := announced(); n != 1 {
			t.Errorf("announced %d times", n)
		}
	})
}

func TestStrangersAreWarnedOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := lone(t)
		defer s.stop()
		if got := s.status(t.Context()).Warnings; strings.Contains(strings.Join(got, "\n"), "MAC") {
			t.Fatalf("warnings without a stranger: %v", got)
		}
		s.drifts(func(k *modelKernel) {
			k.others = []nft.Stranger{{
				Address: netip.MustParseAddr("192.168.56.20"), Interface: "eth1", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 7},
			}}
		})
		time.Sleep(time.Second) // it goes to the leader with a renewal
		got := strings.Join(s.status(t.Context()).Warnings, "\n")
		if want := "a: the host with MAC 02:00:00:00:00:07 on eth1 has 192.168.56.20"; !strings.Contains(got, want) {
			t.Errorf("warnings %q lack %q", got, want)
		}
	})
}
