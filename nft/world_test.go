package nft

import (
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"earshot/hashmode"
	"earshot/nft/nfttest"
)

func TestMain(m *testing.M) { os.Exit(nfttest.Main(m)) }

const (
	nodeIP    = "192.168.56.11"
	clientIP  = "192.168.56.1"
	nodeIP6   = "fd56::11"
	clientIP6 = "fd56::1"
)

// nodeAddr and clientAddr are the hosts' own addresses.
func nodeAddr(v6 bool) netip.Addr { return pick(v6, nodeIP, nodeIP6) }

func clientAddr(v6 bool) netip.Addr { return pick(v6, clientIP, clientIP6) }

func pick(v6 bool, ip4, ip6 string) netip.Addr {
	if v6 {
		return netip.MustParseAddr(ip6)
	}
	return netip.MustParseAddr(ip4)
}

// eachIP runs a test with IPv4 and with IPv6.
func eachIP(t *testing.T, test func(t *testing.T, v6 bool)) {
	for _, v6 := range []bool{false, true} {
		t.Run(ipName(v6), func(t *testing.T) { test(t, v6) })
	}
}

// world is a node and a client joined by a veth pair. Every client address
// beyond 192.168.56.0/24 and fd56::/64 lies behind the client.
type world struct {
	t            testing.TB
	node, client *nfttest.Namespace
	clientMAC    net.HardwareAddr
	nodeMAC      net.HardwareAddr
	clusterMAC   func(netip.Addr) net.HardwareAddr // that senders use
	queue        Queue                             // of the plane opened last
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, node: nfttest.New(t), client: nfttest.New(t), clusterMAC: DefaultMAC}
	nfttest.Veth(w.node, "eth1", w.client, "c1")
	w.addresses()
	w.clientMAC = w.mac(w.client, "c1")
	w.nodeMAC = w.mac(w.node, "eth1")
	w.node.Do(func() {
		link, err := netlink.LinkByName("eth1")
		must(t, err)
		for _, ip := range []string{clientIP, clientIP6} {
			must(t, netlink.NeighAdd(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: net.ParseIP(ip), HardwareAddr: w.clientMAC, State: netlink.NUD_PERMANENT}))
			must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(ip)}))
		}
	})
	w.client.Do(func() {
		// Else it tells the node that it has no way to the hosts behind it.
		must(t, netlink.RouteAdd(&netlink.Route{Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}, Type: unix.RTN_BLACKHOLE}))
	})
	return w
}

func (w *world) addresses() {
	w.node.Address("eth1", nodeIP+"/24")
	w.node.Address("eth1", nodeIP6+"/64")
	w.client.Address("c1", clientIP+"/24")
	w.client.Address("c1", clientIP6+"/64")
}

func (w *world) mac(n *nfttest.Namespace, ifname string) (mac net.HardwareAddr) {
	n.Do(func() {
		ifi, err := net.InterfaceByName(ifname)
		must(w.t, err)
		mac = ifi.HardwareAddr
	})
	return mac
}

// plane opens the node's plane.
func (w *world) plane(options ...Option) *Plane {
	w.t.Helper()
	var p *Plane
	w.node.Do(func() {
		var err error
		p, err = Open(slog.New(slog.NewTextHandler(w.t.Output(), nil)), options...)
		must(w.t, err)
	})
	w.queue = p.Queue()
	p.holds.limit = time.Minute // more than a test takes on a busy machine
	w.t.Cleanup(func() { must(w.t, p.Close()) })
	return p
}

// list is nft's listing of the node's ruleset, "" without nft.
func (w *world) list() string {
	w.t.Helper()
	path, err := exec.LookPath("nft")
	if err != nil {
		return ""
	}
	var out []byte
	w.node.Do(func() {
		out, err = exec.Command(path, "list", "ruleset").CombinedOutput()
	})
	if err != nil {
		w.t.Fatalf("nft list ruleset: %v\n%s", err, out)
	}
	return string(out)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls until f holds.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("not in 5 s: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

// shared is the address that tests share.
func shared() netip.Addr { return sharedOf(false) }

func sharedOf(v6 bool) netip.Addr { return pick(v6, "192.168.56.20", "fd56::20") }

// web is a service on tcp/80 and udp/80 with 16 buckets.
func web(own, inherit, drain hashmode.Set) Service { return webOf(false, own, inherit, drain) }

func webOf(v6 bool, own, inherit, drain hashmode.Set) Service {
	name := "web"
	if v6 {
		name = "web6"
	}
	return Service{
		Name: name, Address: sharedOf(v6), Interface: "eth1", MAC: DefaultMAC(sharedOf(v6)),
		Hash:  hashmode.Spec{Mode: hashmode.SourceIPSourcePort, Buckets: 16, Seed: 0x12345678},
		Ports: []Port{{TCP, 80}, {UDP, 80}},
		Own:   own, Inherit: inherit, Drain: drain,
	}
}

// holding gives a service buckets 12 to 13 to take.
func holding(s Service) Service {
	s.Take = buckets(12, 13)
	return s
}

// stealthy gives a service a stealth MAC.
func stealthy(s Service) Service {
	s.MAC = StealthMAC(s.Address)
	return s
}

func buckets(first, last hashmode.Bucket) hashmode.Set { return hashmode.Range(first, last) }

// benchWorld is a plane with a service of 1,024 buckets.
func benchWorld(b *testing.B) *Plane {
	p := newWorld(b).plane()
	must(b, p.Apply(Ruleset{Index: 1, Services: []Service{big(0, 511)}}))
	return p
}

func big(first, last hashmode.Bucket) Service {
	s := web(buckets(first, last), hashmode.Set{}, hashmode.Set{})
	s.Hash.Buckets = 1024
	return s
}

// believe writes an entry into the client's cache.
func (w *world) believe(a netip.Addr, mac net.HardwareAddr) {
	w.client.Do(func() {
		link, err := netlink.LinkByName("c1")
		must(w.t, err)
		must(w.t, netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: a.AsSlice(), HardwareAddr: mac, State: netlink.NUD_REACHABLE}))
	})
}
