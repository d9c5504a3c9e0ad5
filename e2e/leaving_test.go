package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"earshot/e2e/lab"
	"earshot/e2e/load"
)

// The node's own connections come from its own address, in both families,
// though the shared one is on the same interface.
func TestOwnConnectionsLeaveWithTheNodesOwnAddress(t *testing.T) {
	four, six := web("sourceip", "tcp/80"), web("sourceip", "tcp/80")
	six.Address = sixthAddr.String() + "/64"
	l := newCluster(t, lab.Options{Nodes: 2, Services: map[string]lab.Service{"four": four, "six": six}})
	c := l.Clients[0]
	for _, to := range []netip.Addr{c.Port.Addr, c.Port.IPv6, c.Source(7)} {
		ln, err := c.Listen("tcp", netip.AddrPortFrom(to, 9999).String())
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		for _, n := range l.Nodes {
			want := n.Port.Addr
			if to.Is6() {
				want = n.Port.IPv6
			}
			for _, network := range []string{"tcp", "udp"} {
				conn, err := n.Dial(t.Context(), network, ln.Addr().String())
				if err != nil {
					t.Fatalf("%s to %s: %v", n.Name, to, err)
				}
				if got := netip.MustParseAddrPort(conn.LocalAddr().String()).Addr(); got != want {
					t.Errorf("%s: %s to %s leaves with %s", n.Name, network, to, got)
				}
				conn.Close()
			}
		}
	}
}

// What nodes say by ARP: asking, they name their own address; of the shared
// one they say the cluster MAC, from their own; and they announce it at the
// start, after healing, and when their interface has another MAC.
func TestWhatNodesSayByARP(t *testing.T) {
	l := newLab(t, lab.Options{Nodes: 3, Apart: true, Services: map[string]lab.Service{"web": web("sourceip-sourceport", "tcp/80")}})
	w := watch(t, l)
	if err := l.StartAll(); err != nil {
		t.Fatal(err)
	}
	whole(t, l, formLimit)
	cluster := ask(t, l.Nodes[0]).service("web").MAC
	for _, n := range l.Nodes {
		announced(t, w, n.Port.MAC, cluster, 0)
	}
	n := l.Node("n2")
	t.Run("questions", func(t *testing.T) {
		// The client asks first, and all nodes learn from its question.
		complete(t, l, thousand(l, load.HTTP, webPort))
		for _, n := range l.Nodes {
			if err := n.ForgetNeighbours(); err != nil {
				t.Fatal(err)
			}
		}
		complete(t, l, thousand(l, load.HTTP, webPort))
		questions(t, l, w, cluster)
	})
	t.Run("healing", func(t *testing.T) {
		before, logged := announcements(t, w, n.Port.MAC, cluster), len(n.Log())
		if err := l.Isolate(n); err != nil {
			t.Fatal(err)
		}
		lab.Eventually(t, moveLimit, "n2 loses its lease", func() error {
			if !strings.Contains(n.Log()[logged:], "lease lost") {
				return errors.New("not lost")
			}
			return nil
		})
		if err := l.Heal(); err != nil {
			t.Fatal(err)
		}
		announced(t, w, n.Port.MAC, cluster, before)
	})
	t.Run("another MAC", func(t *testing.T) {
		mac := net.HardwareAddr{0x02, 0xea, 56, 1, 0, 12}
		if err := n.SetMAC(mac); err != nil {
			t.Fatal(err)
		}
		announced(t, w, mac, cluster, 0)
	})
}

// announcements counts what an interface has said of the shared address
// without being asked.
func announcements(t *testing.T, w *load.Witness, from net.HardwareAddr, cluster string) int {
	t.Helper()
	all, err := w.ARPs()
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, a := range all {
		if a.From.String() == from.String() && a.Sender == serviceAddr && a.Target == serviceAddr && a.SenderMAC.String() == cluster {
			count++
		}
	}
	return count
}

// announced waits for more announcements than there were.
func announced(t *testing.T, w *load.Witness, from net.HardwareAddr, cluster string, before int) {
	t.Helper()
	lab.Eventually(t, moveLimit, fmt.Sprintf("announcement from %s", from), func() error {
		if announcements(t, w, from, cluster) <= before {
			return errors.New("none")
		}
		return nil
	})
}

// questions judges all ARP frames so far. Each node must have asked.
func questions(t *testing.T, l *lab.Lab, w *load.Witness, cluster string) {
	t.Helper()
	all, err := w.ARPs()
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]int{}
	for _, a := range all {
		for _, n := range l.Nodes {
			if a.From.String() != n.Port.MAC.String() {
				continue
			}
			announcement := a.Sender == serviceAddr && a.Target == serviceAddr
			probe := a.Sender.IsUnspecified() // which claims nothing
			switch {
			case a.Sender == serviceAddr && a.SenderMAC.String() != cluster:
				t.Errorf("%s says that %s is at %s", n.Name, a.Sender, a.SenderMAC)
			case !a.Reply && !announcement && !probe && a.Sender != n.Port.Addr:
				t.Errorf("%s asks for %s as %s", n.Name, a.Target, a.Sender)
			case !a.Reply && a.Target == l.Clients[0].Port.Addr:
				asked[n.Name]++
			}
		}
		if a.From.String() == cluster {
			t.Errorf("a frame comes from the cluster MAC: %+v", a)
		}
	}
	for _, n := range l.Nodes {
		if asked[n.Name] == 0 {
			t.Errorf("%s asked nobody: nothing is shown", n.Name)
		}
	}
}

// A stranger that takes a shared address while the cluster runs, and says
// nothing by itself, is found; the status names it, the log once.
func TestAStrangerWithASharedAddressIsFound(t *testing.T) {
	four, six := web("sourceip", "tcp/80"), web("sourceip", "tcp/80")
	six.Address = sixthAddr.String() + "/64"
	l := newCluster(t, lab.Options{Nodes: 2, Clients: 2, Services: map[string]lab.Service{"four": four, "six": six}})
	stranger := l.Clients[1]
	for _, address := range []string{four.Address, six.Address} {
		if err := stranger.AddAddress(address); err != nil {
			t.Fatal(err)
		}
	}
	found := lab.Eventually(t, formLimit+moveLimit, "warnings", func() error {
		text := command(t, l.Nodes[0], "status")
		for _, n := range l.Nodes {
			for _, a := range []netip.Addr{serviceAddr, sixthAddr} {
				want := fmt.Sprintf("%s: the host with MAC %s on eth1 has %s", n.Name, stranger.Port.MAC, a)
				if !strings.Contains(strings.Join(strings.Fields(text), " "), want) {
					return fmt.Errorf("no %q in\n%s", want, text)
				}
			}
		}
		return nil
	})
	t.Logf("both families, on both nodes, after %v", found)
	for _, n := range l.Nodes {
		for _, a := range []netip.Addr{serviceAddr, sixthAddr} {
			if told := strings.Count(n.Log(), fmt.Sprintf("address=%s interface=eth1 mac=%s", a, stranger.Port.MAC)); told != 1 {
				t.Errorf("%s told %d times of the stranger with %s", n.Name, told, a)
			}
		}
	}
}
