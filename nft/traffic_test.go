package nft

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/packet"

	"earshot/hashmode"
	"earshot/nft/nfttest"
)

// raw opens a raw socket for all frames on the client's interface.
func (w *world) raw() (*packet.Conn, *net.Interface) {
	w.t.Helper()
	var conn *packet.Conn
	var ifi *net.Interface
	w.client.Do(func() {
		var err error
		ifi, err = net.InterfaceByName("c1")
		must(w.t, err)
		conn, err = packet.Listen(ifi, packet.Raw, 0x0003, nil)
		must(w.t, err)
	})
	w.t.Cleanup(func() { conn.Close() })
	return conn, ifi
}

// sender returns a function that sends a packet from the client: to the
// cluster MAC if it goes to the shared address, else to the node's own.
func (w *world) sender() func(nfttest.Packet) {
	w.t.Helper()
	w.t.Cleanup(nfttest.Pin(w.t))
	conn, _ := w.raw()
	return func(p nfttest.Packet) {
		w.t.Helper()
		dst := w.nodeMAC
		if p.To.Addr() == sharedOf(p.To.Addr().Is6()) {
			dst = w.clusterMAC(p.To.Addr())
		}
		for _, f := range p.Frames(w.clientMAC, dst) {
			_, err := conn.WriteTo(f, &packet.Addr{HardwareAddr: dst})
			must(w.t, err)
		}
	}
}

// an observer counts what passes our prerouting chain.
type observer struct {
	t     testing.TB
	c     *nftables.Conn
	table *nftables.Table
	send  func(nfttest.Packet)
}

func (w *world) observer() *observer {
	w.t.Helper()
	o := &observer{t: w.t, table: &nftables.Table{Name: "observer", Family: inet}, send: w.sender()}
	count := func(a netip.Addr) []expr.Any {
		return when(isIP(inet, a.Is6()), ipDest(a), counter()).exprs()
	}
	w.node.Do(func() {
		var err error
		o.c, err = nftables.New(nftables.AsLasting())
		must(w.t, err)
		o.c.AddTable(o.table)
		ch := chain{name: "prerouting", hook: &hook{num: *nftables.ChainHookPrerouting, priority: -149}}
		addChain(o.c, o.table, ch)
		for _, a := range []netip.Addr{sharedOf(false), sharedOf(true), netip.MustParseAddr(nodeIP)} {
			o.c.AddRule(&nftables.Rule{Table: o.table, Chain: &nftables.Chain{Name: "prerouting"}, Exprs: count(a)})
		}
		must(w.t, o.c.Flush())
	})
	w.t.Cleanup(func() { must(w.t, o.c.CloseLasting()) })
	return o
}

func (o *observer) counters() (toShared, toNode uint64) {
	o.t.Helper()
	rules, err := o.c.GetRules(o.table, &nftables.Chain{Name: "prerouting"})
	must(o.t, err)
	packets := func(r *nftables.Rule) uint64 {
		for _, e := range r.Exprs {
			if c, ok := e.(*expr.Counter); ok {
				return c.Packets
			}
		}
		return 0
	}
	return packets(rules[0]) + packets(rules[1]), packets(rules[2])
}

// passed sends a packet and says how many came through: a second packet to
// the node's own address tells that the first has been decided about.
func (o *observer) passed(p nfttest.Packet) int {
	o.t.Helper()
	before, marks := o.counters()
	o.send(p)
	o.send(nfttest.Packet{From: netip.MustParseAddrPort("10.9.9.9:9"), To: netip.MustParseAddrPort(nodeIP + ":9"), Protocol: nfttest.UDP})
	var after uint64
	eventually(o.t, "marker", func() bool {
		var now uint64
		after, now = o.counters()
		return now > marks
	})
	return int(after - before)
}

// clientOf finds a client whose packets to port 80, and whose packets without
// ports, are both in the bucket.
func clientOf(spec hashmode.Spec, b hashmode.Bucket, skip int) netip.AddrPort {
	return clientOfIP(false, spec, b, skip)
}

func clientOfIP(v6 bool, spec hashmode.Spec, b hashmode.Bucket, skip int) netip.AddrPort {
	for i := uint32(1); ; i++ {
		addr := remote(v6, i)
		if spec.SourceOnly().Bucket(netip.AddrPortFrom(addr, 0), 0) != b {
			continue
		}
		for port := uint16(1024); port < 2048; port++ {
			client := netip.AddrPortFrom(addr, port)
			if spec.Bucket(client, 80) != b {
				continue
			}
			if skip == 0 {
				return client
			}
			skip--
		}
	}
}

// remote is one of the addresses behind the client.
func remote(v6 bool, i uint32) netip.Addr {
	if v6 {
		a := netip.MustParseAddr("2001:db8::").As16()
		binary.BigEndian.PutUint32(a[12:], i)
		return netip.AddrFrom16(a)
	}
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 10<<24|i)
	return netip.AddrFrom4(a)
}

// to is the shared address that a client of this family speaks to.
func to(from netip.AddrPort, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(sharedOf(from.Addr().Is6()), port)
}

func tcp(from netip.AddrPort, flags uint8) nfttest.Packet {
	return nfttest.Packet{From: from, To: to(from, 80), Protocol: nfttest.TCP, Flags: flags, Seq: 1000}
}

func udp(from netip.AddrPort, port uint16) nfttest.Packet {
	return nfttest.Packet{From: from, To: to(from, port), Protocol: nfttest.UDP, Payload: make([]byte, 64)}
}

// handshake opens a TCP connection to port 80 by hand, and returns a packet
// with data on it.
func (w *world) handshake(o *observer, from netip.AddrPort) nfttest.Packet {
	w.t.Helper()
	conn, _ := w.raw()
	if o.passed(tcp(from, nfttest.SYN)) != 1 {
		w.t.Fatal("SYN did not pass")
	}
	const eth = 14
	ip, protocol := 20, 9
	if from.Addr().Is6() {
		ip, protocol = 40, 6
	}
	buf := make([]byte, 2000)
	must(w.t, conn.SetReadDeadline(time.Now().Add(5*time.Second)))
	for {
		n, _, err := conn.ReadFrom(buf)
		must(w.t, err)
		f := buf[:n]
		if n < eth+ip+20 || f[eth+protocol] != nfttest.TCP || f[eth+ip+13] != nfttest.SYN|nfttest.ACK || binary.BigEndian.Uint16(f[eth+ip+2:]) != from.Port() {
			continue
		}
		ack := tcp(from, nfttest.ACK)
		ack.Seq, ack.Ack = 1001, binary.BigEndian.Uint32(f[eth+ip+4:])+1
		if o.passed(ack) != 1 {
			w.t.Fatal("ACK did not pass")
		}
		ack.Flags |= nfttest.PSH
		ack.Payload = []byte("hello")
		return ack
	}
}

// serve has the node listen on TCP and UDP port 80 of every address.
func (w *world) serve() {
	w.t.Helper()
	w.node.Do(func() {
		l, err := net.Listen("tcp", ":80") // both families
		must(w.t, err)
		u, err := net.ListenPacket("udp", ":80")
		must(w.t, err)
		w.t.Cleanup(func() { l.Close(); u.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				w.t.Cleanup(func() { c.Close() })
			}
		}()
		go func() {
			buf := make([]byte, 2000)
			for {
				n, from, err := u.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = u.WriteTo(buf[:n], from)
			}
		}()
	})
}

// leased applies services and gives a long lease.
func leased(t *testing.T, p *Plane, index uint64, services ...Service) {
	t.Helper()
	must(t, p.Apply(Ruleset{Index: index, Services: services}))
	must(t, p.Lease(time.Now().Add(time.Hour)))
}

// leaseLong gives a lease that outlasts the test.
func leaseLong(t testing.TB, p *Plane) {
	t.Helper()
	must(t, p.Lease(time.Now().Add(time.Hour)))
}
