package nft

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"

	"earshot/hashmode"
	"earshot/nft/nfttest"
)

func TestTestFrame(t *testing.T) {
	for _, f := range []testFrame{{TestCluster, 7, "n1"}, {TestGroup, 1 << 63, ""}, {TestBroadcast, 0, strings.Repeat("n", 100)}} {
		body := f.body()
		if got, err := parseTestBody(append(body, 0, 0, 0)); got != f || err != nil {
			t.Errorf("%+v came back as %+v, %v", f, got, err)
		}
		for n := range body {
			if got, err := parseTestBody(body[:n]); err == nil {
				t.Errorf("%d of %d bytes are %+v", n, len(body), got)
			}
		}
	}
	bad := testFrame{TestCluster, 7, "n1"}.body()
	bad[4+len(testMagic)+8] = 9
	if _, err := parseTestBody(bad); err == nil {
		t.Error("unknown kind taken")
	}
}

// ears lets both hosts of a world hear at once and returns what each heard,
// the node first.
func (w *world) ears(s Service) (node, client Heard) {
	w.t.Helper()
	done := make(chan Heard, 1)
	hear := func(n *nfttest.Namespace, name, ifname string) (h Heard) {
		n.Do(func() {
			a := address{s.Address, ifname, s.MAC, []Service{s}}
			h = newHeard(a)
			if err := h.listen(context.Background(), Question{Node: name, Nonce: 5, Window: 600 * time.Millisecond}, a); err != nil {
				h.Error = err.Error()
			}
		})
		return h
	}
	go func() { done <- hear(w.client, "peer", "c1") }()
	node = hear(w.node, "me", "eth1")
	return node, <-done
}

// Both hosts of a segment hear each other's test frames, with rules that would
// drop or serve a client's frame, and nothing of it gets to the stack.
func TestHear(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		for name, s := range map[string]Service{
			"multicast": webOf(v6, all16(), hashmode.Set{}, hashmode.Set{}),
			"stealth":   stealthy(webOf(v6, all16(), hashmode.Set{}, hashmode.Set{})),
		} {
			t.Run(name, func(t *testing.T) {
				w := newWorld(t)
				leased(t, w.plane(), 1, s)
				o := w.observer()
				before, _ := o.counters()
				node, client := w.ears(s)
				for _, h := range []Heard{node, client} {
					if h.Error != "" || len(h.From) != 1 {
						t.Fatalf("%+v", h)
					}
				}
				got := node.From["peer"]
				if got.Cluster == 0 || got.Broadcast == 0 || (got.Group > 0) != (name == "multicast") {
					t.Errorf("node heard %+v", got)
				}
				if got := client.From["me"]; got.Cluster == 0 || got.Broadcast == 0 {
					t.Errorf("client heard %+v", got)
				}
				if after, _ := o.counters(); after != before || w.dropped("test frame") == 0 {
					t.Errorf("%d test frames passed, %d were dropped as such", after-before, w.dropped("test frame"))
				}
				if len(node.Senders) != 0 {
					t.Errorf("test frames are taken for a client's: %+v", node.Senders)
				}
				if node.Gateway == nil || node.Gateway.MAC != w.clientMAC.String() {
					t.Errorf("gateway is %+v, want %s", node.Gateway, w.clientMAC)
				}
			})
		}
	})
}

// What a switch swallows is not heard, and all else is.
func TestHearWhatIsMissing(t *testing.T) {
	w := newWorld(t)
	s := web(all16(), hashmode.Set{}, hashmode.Set{})
	leased(t, w.plane(), 1, s)
	w.swallow(s.MAC)
	node, _ := w.ears(s)
	if got := node.From["peer"]; got.Cluster != 0 || got.Group != 0 || got.Broadcast == 0 {
		t.Errorf("heard %+v", got)
	}
}

// swallow drops the client's frames to a MAC on their way out.
func (w *world) swallow(mac net.HardwareAddr) {
	w.client.Do(func() {
		c, err := nftables.New()
		must(w.t, err)
		table := c.AddTable(&nftables.Table{Name: "swallow", Family: nftables.TableFamilyNetdev})
		egress := nftables.ChainHookRef(1)
		ch := c.AddChain(&nftables.Chain{Name: "out", Table: table, Type: nftables.ChainTypeFilter, Hooknum: egress, Priority: nftables.ChainPriorityFilter, Device: "c1"})
		c.AddRule(&nftables.Rule{Table: table, Chain: ch, Exprs: []expr.Any{load(expr.PayloadBaseLLHeader, 0, 6), equal(mac...), &expr.Verdict{Kind: expr.VerdictDrop}}})
		must(w.t, c.Flush())
	})
}

// A client's frames tell to which MAC it sends: to the cluster MAC, or to that
// of a node, which it should not know.
func TestHearSenders(t *testing.T) {
	w := newWorld(t)
	s := web(all16(), hashmode.Set{}, hashmode.Set{})
	leased(t, w.plane(), 1, s)
	stop, stopped := make(chan struct{}), make(chan struct{})
	send := w.sender()
	go func() {
		defer close(stopped)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				send(udp(clientOf(s.Hash, 3, 0), 80))
				w.sendTo(w.nodeMAC, udp(clientOf(s.Hash, 4, 0), 80))
			}
		}
	}()
	node, _ := w.ears(s)
	close(stop)
	<-stopped
	for _, sender := range node.Senders {
		if sender.MAC == w.clientMAC.String() {
			if sender.Cluster == 0 || sender.Other == 0 || sender.To != w.nodeMAC.String() {
				t.Errorf("%+v", sender)
			}
			return
		}
	}
	t.Errorf("the client is not among %+v", node.Senders)
}

// Queries for group members are seen, of both families; reports are none.
func TestParseQuery(t *testing.T) {
	ip4 := append(ethernetHeader(0x0800), 0x46, 0, 0, 32, 0, 0, 0, 0, 1, 2, 0, 0, 192, 168, 56, 1, 224, 0, 0, 1, 0x94, 4, 0, 0, igmpQuery, 100, 0, 0, 0, 0, 0, 0)
	ip6 := append(ethernetHeader(0x86dd), 0x60, 0, 0, 0, 0, 36, 0, 1)
	ip6 = append(ip6, netip.MustParseAddr("fe80::1").AsSlice()...)
	ip6 = append(ip6, netip.MustParseAddr("ff02::1").AsSlice()...)
	ip6 = append(ip6, 58, 0, 5, 2, 0, 0, 1, 0)
	ip6 = append(ip6, append([]byte{mldQuery}, make([]byte, 27)...)...)
	for want, frame := range map[string][]byte{"192.168.56.1": ip4, "fe80::1": ip6} {
		from, mac, ok := parseQuery(frame)
		if !ok || from.String() != want || mac != "02:00:00:00:00:07" {
			t.Errorf("%s, %s, %v; want %s", from, mac, ok, want)
		}
		for n := range frame[:len(frame)-4] {
			if from, _, ok := parseQuery(frame[:n]); ok && n < 14+24 {
				t.Errorf("%d bytes are a query of %s", n, from)
			}
		}
	}
	report := append([]byte{}, ip4...)
	report[14+24] = 0x22
	if _, _, ok := parseQuery(report); ok {
		t.Error("a report is a query")
	}
}

func ethernetHeader(kind uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{1, 0, 0x5e, 0, 0, 1, 2, 0, 0, 0, 0, 7}, kind)
}

// Queriers are heard over the wire, and forgotten.
func TestQueriers(t *testing.T) {
	w := newWorld(t)
	q := &queriers{}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go w.node.Do(func() { q.watch(ctx, "eth1") })
	send := w.sender()
	query := nfttest.Packet{From: netip.AddrPortFrom(clientAddr(false), 0), To: netip.MustParseAddrPort("192.168.56.20:0"), Protocol: 2, Payload: []byte{igmpQuery, 100, 0, 0, 0, 0, 0, 0}}
	eventually(t, "a querier", func() bool {
		send(query)
		found, listening := q.of("eth1", false)
		return len(found) == 1 && found[0].Address == clientAddr(false) && found[0].MAC == w.clientMAC.String() && listening > 0
	})
	if found, _ := q.of("eth1", true); len(found) != 0 {
		t.Errorf("an IGMP querier is one of MLD: %v", found)
	}
	cancel()
	q.mu.Lock()
	for k := range q.heard {
		q.heard[k] = time.Now().Add(-querierGone - time.Second)
	}
	q.mu.Unlock()
	if found, _ := q.of("eth1", false); len(found) != 0 {
		t.Errorf("not forgotten: %v", found)
	}
}

// The default gateway is the one on the interface.
func TestDefaultGateway(t *testing.T) {
	w := newWorld(t)
	w.node.Do(func() {
		if got := defaultGateway("eth1", false); got != clientAddr(false) {
			t.Error(got)
		}
		if got := defaultGateway("lo", false); got.IsValid() {
			t.Error(got)
		}
		link, err := netlink.LinkByName("eth1")
		must(t, err)
		must(t, netlink.RouteDel(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(clientIP6)}))
		if got := defaultGateway("eth1", true); got.IsValid() {
			t.Error(got)
		}
	})
}
