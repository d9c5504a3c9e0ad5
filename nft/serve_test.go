package nft

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"

	"earshot/hashmode"
	"earshot/nft/nfttest"
)

// A client with an ordinary kernel learns the cluster MAC and is served over
// TCP; the node's own connections do not use the shared address.
func TestServing(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		service := webOf(v6, all16(), hashmode.Set{}, hashmode.Set{})
		t.Run("multicast", func(t *testing.T) { serving(t, service) })
		t.Run("stealth", func(t *testing.T) { serving(t, stealthy(service)) })
	})
}

// serveEcho has the node send back what TCP clients send to port 80.
func (w *world) serveEcho() {
	w.t.Helper()
	w.node.Do(func() {
		l, err := net.Listen("tcp", ":80") // both families, as most servers do
		must(w.t, err)
		w.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { _, _ = io.Copy(c, c); c.Close() }()
			}
		}()
	})
}

func serving(t *testing.T, service Service) {
	w := newWorld(t)
	p := w.plane()
	v6 := service.Address.Is6()
	sources := w.sources()
	leased(t, p, 1, service)
	w.forgetClient()
	w.serveEcho()
	var client net.Conn
	w.client.Do(func() {
		var err error
		client, err = net.DialTimeout("tcp", netip.AddrPortFrom(service.Address, 80).String(), 5*time.Second)
		must(t, err)
		_, err = client.Write([]byte("hello"))
		must(t, err)
		_, err = io.ReadFull(client, make([]byte, 5))
		must(t, err)
	})
	if mac := w.neighbour(service.Address); mac != service.MAC.String() {
		t.Errorf("the client learned %s", mac)
	}
	w.node.Do(func() {
		c, err := net.Dial("udp", netip.AddrPortFrom(clientAddr(v6), 9).String())
		must(t, err)
		defer c.Close()
		if got := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr(); got != nodeAddr(v6) {
			t.Errorf("own connections come from %s", got)
		}
	})
	w.checkFlows(p, service, client)
	w.checkReachability(service)
	if got := sources(); got[service.MAC.String()] || !got[w.nodeMAC.String()] {
		t.Errorf("frames came from %v", got)
	}
}

// sources returns what tells the MACs that frames came from since.
func (w *world) sources() func() map[string]bool {
	w.t.Helper()
	conn, _ := w.raw()
	return func() map[string]bool {
		macs := map[string]bool{}
		must(w.t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		for {
			_, from, err := conn.ReadFrom(make([]byte, 2000))
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return macs
			}
			must(w.t, err)
			macs[from.(*packet.Addr).HardwareAddr.String()] = true
		}
	}
}

// checkReachability has the client ask, with frames to the cluster MAC, if
// the address is still there.
func (w *world) checkReachability(s Service) {
	w.t.Helper()
	version := map[bool]string{false: "ipv4", true: "ipv6"}[s.Address.Is6()]
	w.client.Do(func() {
		must(w.t, os.WriteFile("/proc/sys/net/"+version+"/neigh/c1/delay_first_probe_time", []byte("0"), 0))
		link, err := netlink.LinkByName("c1")
		must(w.t, err)
		must(w.t, netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: s.Address.AsSlice(), HardwareAddr: s.MAC, State: netlink.NUD_STALE}))
		c, err := net.Dial("udp", netip.AddrPortFrom(s.Address, 9).String())
		must(w.t, err)
		defer c.Close()
		_, err = c.Write([]byte("anybody there?"))
		must(w.t, err)
	})
	eventually(w.t, "reachability confirmed", func() bool {
		n := w.entry(s.Address)
		return n.State == netlink.NUD_REACHABLE && n.HardwareAddr.String() == s.MAC.String()
	})
}

// A node that does not know the MAC of a client asks for it before it
// answers. The question must not tell the client the node's own MAC: from then
// on, this node alone would hear it.
func TestQuestionsTellNoMAC(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		w.serve()
		service := webOf(v6, all16(), hashmode.Set{}, hashmode.Set{})
		leased(t, w.plane(), 1, service)
		w.believe(service.Address, service.MAC)
		w.forgetClient()
		w.client.Do(func() {
			c, err := net.DialTimeout("tcp", netip.AddrPortFrom(service.Address, 80).String(), 5*time.Second)
			must(t, err)
			must(t, c.Close())
		})
		if mac := w.neighbour(service.Address); mac != service.MAC.String() {
			t.Errorf("the client learned %s", mac)
		}
	})
}

// forgetClient removes the client from the node's cache.
func (w *world) forgetClient() {
	w.node.Do(func() {
		link, err := netlink.LinkByName("eth1")
		must(w.t, err)
		for _, ip := range []string{clientIP, clientIP6} {
			must(w.t, netlink.NeighDel(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: net.ParseIP(ip)}))
		}
	})
}

func (w *world) neighbour(a netip.Addr) string { return w.entry(a).HardwareAddr.String() }

// entry is the client's cache entry for an address.
func (w *world) entry(a netip.Addr) (entry netlink.Neigh) {
	w.client.Do(func() {
		link, err := netlink.LinkByName("c1")
		must(w.t, err)
		all, err := netlink.NeighList(link.Attrs().Index, netlink.FAMILY_ALL)
		must(w.t, err)
		for _, n := range all {
			if n.IP.String() == a.String() {
				entry = n
			}
		}
	})
	return entry
}

// checkFlows looks at a connection through its life: active, half closed,
// half closed without its conntrack entry, gone.
func (w *world) checkFlows(p *Plane, service Service, client net.Conn) {
	t := w.t
	t.Helper()
	from := client.LocalAddr().(*net.TCPAddr).AddrPort()
	bucket := service.Hash.Bucket(from, 80)
	count := func() string {
		flows, err := p.Flows([]Service{service, other()})
		must(t, err)
		return fmt.Sprint(flows)
	}
	want := func(c FlowCount) string {
		m := map[string]map[hashmode.Bucket]FlowCount{service.Name: {bucket: c}, "all-ports": {}}
		if c == (FlowCount{}) {
			m[service.Name] = map[hashmode.Bucket]FlowCount{}
		}
		return fmt.Sprint(m)
	}
	if got := count(); got != want(FlowCount{Active: 1}) {
		t.Fatalf("active: %s", got)
	}
	w.node.Do(func() { must(t, flushConntrack()) })
	if got := count(); got != want(FlowCount{Active: 1}) {
		t.Fatalf("active, without conntrack: %s", got)
	}
	must(t, client.(*net.TCPConn).Close())
	eventually(t, "gone: "+want(FlowCount{}), func() bool { return count() == want(FlowCount{}) })
}

func flushConntrack() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) } // both families

// Two services of one address, and ports of none (rule P22): the first by
// name decides by source.
func TestServicesOfOneAddress(t *testing.T) { eachIP(t, servicesOfOneAddress) }

func servicesOfOneAddress(t *testing.T, v6 bool) {
	w := newWorld(t)
	p := w.plane()
	none := hashmode.Set{}
	a := webOf(v6, hashmode.NewSet(1), none, none)
	a.Name, a.Ports = "a", []Port{{TCP, 80}}
	b := webOf(v6, hashmode.NewSet(2), none, none)
	b.Name, b.Ports, b.Hash.Seed = "b", []Port{{TCP, 443}, {UDP, 53}, {SCTP, 36412}}, 77
	must(t, p.Apply(Ruleset{Index: 1, Services: []Service{b, a, other()}}))
	must(t, p.Lease(time.Now().Add(time.Hour)))
	o := w.observer()
	all, err := addresses([]Service{b, a})
	must(t, err)
	for i := range 300 {
		client := netip.AddrPortFrom(remote(v6, 1<<16+uint32(i)), uint16(2000+i))
		for _, k := range []Port{{TCP, 80}, {TCP, 443}, {UDP, 53}, {TCP, 22}, {UDP, 80}, {SCTP, 36412}, {SCTP, 80}, {nfttest.ICMP, 0}} {
			p := nfttest.Packet{From: client, To: to(client, k.Number), Protocol: uint8(k.Protocol), Flags: nfttest.SYN}
			if k.Protocol == nfttest.ICMP {
				p = nfttest.Echo(client, a.Address, 1, 1)
			}
			service, spec := all[0].decider(uint8(k.Protocol), k.Number)
			want := service.Own.Has(spec.Bucket(client, k.Number))
			if got := o.passed(p) == 1; got != want {
				t.Fatalf("%s from %s: passed is %v, want %v by %s", k.Protocol, client, got, want, service.Name)
			}
		}
	}
}

// A frame to another host's MAC stays another host's.
func TestFramesOfOthersStayTheirs(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	leased(t, p, 1, ownAll())
	o := w.observer()
	w.node.Do(func() {
		link, err := netlink.LinkByName("eth1")
		must(t, err)
		must(t, netlink.SetPromiscOn(link))
	})
	mine := udp(clientOf(ownAll().Hash, 3, 0), 4711)
	before, _ := o.counters()
	w.sendTo(net.HardwareAddr{2, 0, 0, 0, 0, 9}, mine)
	o.passed(mine)
	if after, _ := o.counters(); after-before != 1 {
		t.Fatalf("%d packets of one to another host and one to the cluster MAC were taken", after-before)
	}
}

func (w *world) sendTo(mac net.HardwareAddr, p nfttest.Packet) {
	w.t.Helper()
	conn, _ := w.raw()
	for _, f := range p.Frames(w.clientMAC, mac) {
		_, err := conn.WriteTo(f, &packet.Addr{HardwareAddr: mac})
		must(w.t, err)
	}
}

// The SYN-ACKs of a bucket stay in that was given away, be its drain over or
// not (rule P17); those of all others leave.
func TestSYNACKsOfOthersBucketsStayIn(t *testing.T) {
	none, three := hashmode.Set{}, hashmode.NewSet(3)
	for name, tc := range map[string]struct {
		service Service
		stays   bool
	}{
		"drain":   {web(all16().Minus(three), none, three), true},
		"foreign": {web(all16().Minus(three), none, none), true},
		"inherit": {web(all16().Minus(three), three, none), false},
		"own":     {web(all16(), none, none), false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p := w.plane()
			w.serve()
			leased(t, p, 1, ownAll())
			o := w.observer()
			if o.passed(tcp(clientOf(ownAll().Hash, 3, 0), nfttest.SYN)) != 1 {
				t.Fatal("SYN did not pass")
			}
			must(t, p.Apply(Ruleset{Index: 2, Services: []Service{tc.service}}))
			must(t, p.Barrier())
			dropped := func() uint64 { return w.dropped("SYN-ACK: another node's bucket") }
			if tc.stays {
				// The kernel sends its SYN-ACK again after a second.
				eventually(t, "a dropped SYN-ACK", func() bool { return dropped() > 0 })
				return
			}
			if o.passed(tcp(clientOf(ownAll().Hash, 3, 1), nfttest.SYN)) != 1 || dropped() > 0 {
				t.Errorf("%d SYN-ACKs of its own were dropped", dropped())
			}
		})
	}
}

// dropped counts what the rules with a comment have dropped.
func (w *world) dropped(comment string) uint64 { return w.droppedIn(comment, families()...) }

func (w *world) droppedIn(comment string, in ...nftables.TableFamily) (packets uint64) {
	w.node.Do(func() {
		c, err := nftables.New()
		must(w.t, err)
		for _, f := range in {
			chains, err := c.ListChainsOfTableFamily(f)
			must(w.t, err)
			for _, ch := range chains {
				rules, err := c.GetRules(ch.Table, ch)
				must(w.t, err)
				for _, r := range rules {
					if text, _ := userdata.GetString(r.UserData, userdata.TypeComment); text != comment {
						continue
					}
					for _, e := range r.Exprs {
						if n, ok := e.(*expr.Counter); ok {
							packets += n.Packets
						}
					}
				}
			}
		}
	})
	return packets
}
