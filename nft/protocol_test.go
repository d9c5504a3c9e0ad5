package nft

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"earshot/hashmode"
	"earshot/nft/nfttest"
)

// A service of everything decides by the ports of all protocols that have
// some, wherever the transport header stands, and else by the source address.
func TestEveryProtocol(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		p := w.plane()
		s := webOf(v6, buckets(0, 7), hashmode.Set{}, hashmode.Set{})
		s.Ports, s.Hash.Mode = nil, hashmode.SourceIPSourcePortDestPort
		leased(t, p, 1, s)
		o := w.observer()
		all, err := addresses([]Service{s})
		must(t, err)
		for _, protocol := range []uint8{6, 17, 33, 132, 136, nfttest.ESP, nfttest.AH, nfttest.GRE, 253} {
			for i := range 40 {
				client := netip.AddrPortFrom(remote(v6, uint32(i)), uint16(3000+i))
				packet := nfttest.Packet{From: client, To: to(client, 80), Protocol: protocol, Flags: nfttest.SYN, Payload: make([]byte, 40), Options: i%2 == 1}
				if protocol == nfttest.AH { // with a TCP segment inside
					packet.Payload[0], packet.Payload[1] = nfttest.TCP, 4
				}
				_, spec := all[0].decider(protocol, 80)
				want := s.Own.Has(spec.Bucket(client, 80))
				if got := o.passed(packet) == 1; got != want {
					t.Errorf("protocol %d from %s, options %v: passed is %v, want %v", protocol, client, packet.Options, got, want)
				}
			}
		}
	})
}

// Flows of all protocols are counted in the bucket that decides about them.
func TestFlowsOfOtherProtocols(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		p := w.plane()
		s := webOf(v6, all16(), hashmode.Set{}, hashmode.Set{})
		s.Ports = nil
		leased(t, p, 1, s)
		o := w.observer()
		want := map[hashmode.Bucket]FlowCount{}
		for i, protocol := range []Protocol{SCTP, nfttest.GRE} {
			client := netip.AddrPortFrom(remote(v6, uint32(7+i)), uint16(3000+i))
			all, err := addresses([]Service{s})
			must(t, err)
			_, spec := all[0].decider(uint8(protocol), 80)
			want[spec.Bucket(client, 80)] = FlowCount{Other: 1}
			packet := nfttest.Packet{From: client, To: to(client, 80), Protocol: uint8(protocol), Payload: make([]byte, 40)}
			if protocol == SCTP {
				copy(packet.Payload, []byte{1, 0, 0, 20, 0, 0, 0, 7}) // a chunk that opens an association
				packet.Payload = packet.Payload[:20]
			}
			if o.passed(packet) != 1 {
				t.Fatalf("%s did not pass", protocol)
			}
		}
		eventually(t, fmt.Sprint("flows ", want), func() bool {
			got, err := p.Flows([]Service{s})
			must(t, err)
			return fmt.Sprint(got[s.Name]) == fmt.Sprint(want)
		})
	})
}

// Settings that refuse unicast packets in multicast frames do not matter: at
// netdev ingress the frame becomes one to this host.
func TestUnicastInMulticastFrames(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		w.serve()
		version := map[bool]string{false: "ipv4", true: "ipv6"}[v6]
		w.node.Do(func() { must(t, writeInt("/proc/sys/net/"+version+"/conf/eth1/drop_unicast_in_l2_multicast", 1)) })
		s := webOf(v6, all16(), hashmode.Set{}, hashmode.Set{})
		leased(t, w.plane(), 1, s)
		w.handshake(w.observer(), clientOfIP(v6, s.Hash, 3, 0))
	})
}

func TestPorts(t *testing.T) {
	for _, p := range Protocols() {
		port := Port{p, 36412}
		if got, err := ParsePort(port.String()); got != port || err != nil {
			t.Errorf("%s: %v, %v", port, got, err)
		}
	}
	for _, text := range []string{"", "tcp", "tcp/", "tcp/0", "tcp/65536", "tcp/-1", "icmp/8", "/80", "tcp/80/1"} {
		if got, err := ParsePort(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

// A service of each family side by side on one interface, in the two modes.
func TestBothFamilies(t *testing.T) {
	w := newWorld(t)
	w.serve()
	p := w.plane()
	four, six := ownAll(), stealthy(webOf(true, all16(), hashmode.Set{}, hashmode.Set{}))
	w.clusterMAC = func(a netip.Addr) net.HardwareAddr {
		if a.Is6() {
			return six.MAC
		}
		return four.MAC
	}
	leased(t, p, 1, four, six)
	o := w.observer()
	client4, client6 := clientOf(four.Hash, 3, 0), clientOfIP(true, six.Hash, 3, 0)
	w.handshake(o, client4)
	w.handshake(o, client6)
	must(t, p.Lease(time.Now().Add(20*time.Millisecond)))
	eventually(t, "expiry", func() bool { return w.left(p) == 0 })
	if o.passed(tcp(client4, nfttest.SYN))+o.passed(tcp(client6, nfttest.SYN)) != 0 {
		t.Error("passed without a lease")
	}
}

// The first fragment has ports, but goes the way of the others: were it dropped
// as foreign at ingress, they would wait for it and fill the reassembly's memory.
// So it is with few ports, where foreign frames are dropped in the interface's
// own chain, and with many.
func TestForeignFragmentsStayTogether(t *testing.T) {
	for _, ports := range []uint16{1, 9} {
		eachIP(t, func(t *testing.T, v6 bool) {
			w := newWorld(t)
			s := webOf(v6, buckets(0, 7), hashmode.Set{}, hashmode.Set{})
			s.Ports = nil
			for n := range ports {
				s.Ports = append(s.Ports, Port{UDP, 80 + n})
			}
			leased(t, w.plane(), 1, s)
			o := w.observer()
			p := udp(clientOfIP(v6, s.Hash, 9, 0), 80)
			if o.passed(p) != 0 || w.droppedIn("foreign bucket", netdev) != 1 {
				t.Error("a foreign packet was not dropped at ingress")
			}
			p.Fragments, p.ID = 24, 78
			if o.passed(p) != 0 || w.droppedIn("foreign bucket", netdev) != 1 || w.droppedIn("foreign bucket", inet) != 1 {
				t.Error("foreign fragments were not dropped when whole again")
			}
		})
	}
}
