package nft

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"earshot/hashmode"
	"earshot/nft/nfttest"
)

// What is disowned is known no more; other buckets' flows are, and TCP's.
func TestDisown(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		w.serve()
		p := w.plane()
		s := webOf(v6, all16(), hashmode.Set{}, hashmode.Set{})
		leased(t, p, 1, s)
		o := w.observer()
		connection := clientOfIP(v6, ownAll().Hash, 3, 0)
		w.handshake(o, connection)
		datagrams := map[hashmode.Bucket]Flow{}
		for b := range hashmode.Bucket(16) {
			d := udp(clientOfIP(v6, ownAll().Hash, b, 1), 80)
			if o.passed(d) != 1 {
				t.Fatalf("datagram of bucket %d does not pass", b)
			}
			datagrams[b] = flowOf(d)
		}
		gone := hashmode.NewSet(3, 7)
		must(t, p.Disown([]Service{s}, map[string]hashmode.Set{s.Name: gone}))
		for b, f := range datagrams {
			known, err := p.Known([]Flow{f, flowOf(tcp(connection, nfttest.SYN))})
			must(t, err)
			if known[0] == gone.Has(b) || !known[1] {
				t.Errorf("bucket %d: its datagrams' flow is known: %v; the connection of bucket 3: %v", b, known[0], known[1])
			}
		}
	})
}

// A flow that the server began is this node's as much as any other, but for
// TCP's: the client's packets are let in by the same rule.
func TestFlowsThatTheServerBegan(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		p := w.plane()
		s := webOf(v6, all16(), hashmode.Set{}, hashmode.Set{})
		leased(t, p, 1, s)
		client := netip.AddrPortFrom(remote(v6, 9), 4000)
		w.node.Do(func() {
			conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(sharedOf(v6), 80)), net.UDPAddrFromAddrPort(client))
			must(t, err)
			defer conn.Close()
			_, err = conn.Write([]byte("block 1"))
			must(t, err)
		})
		flow := flowOf(udp(client, 80))
		known := func() bool {
			k, err := p.Known([]Flow{flow})
			must(t, err)
			return k[0]
		}
		eventually(t, "known", known)
		bucket := s.Hash.Bucket(client, 80)
		flows, err := p.Flows([]Service{s})
		must(t, err)
		if got := flows[s.Name][bucket]; got.Other != 1 {
			t.Errorf("flows %v", flows)
		}
		must(t, p.Disown([]Service{s}, map[string]hashmode.Set{s.Name: hashmode.NewSet(bucket)}))
		if known() {
			t.Error("disowned, and known")
		}
	})
}

// What a server sends to a client whose bucket another node has stays here: it
// would begin the flow again for conntrack, as one that this node knows.
func TestAServerBeginsNoFlowInAnothersBucket(t *testing.T) {
	for state, leaves := range map[string]bool{"own": true, "inherit": true, "take": true, "drain": true, "": false} {
		for name, ports := range map[string][]Port{"port": {{UDP, 80}}, "all ports": nil} {
			t.Run(state+" "+name, func(t *testing.T) {
				eachIP(t, func(t *testing.T, v6 bool) {
					w := newWorld(t)
					p := w.plane()
					s := inState(v6, state, 5)
					s.Ports = ports
					leasedHold(t, p, s)
					client := clientOfIP(v6, s.Hash, 5, 0)
					var err error
					w.node.Do(func() {
						conn, dialErr := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(sharedOf(v6), 80)), net.UDPAddrFromAddrPort(client))
						must(t, dialErr)
						defer conn.Close()
						_, err = conn.Write([]byte("news"))
					})
					known, knownErr := p.Known([]Flow{flowOf(udp(client, 80))})
					must(t, knownErr)
					if known[0] != leaves || (err == nil) != leaves {
						t.Errorf("known: %v, sent: %v", known[0], err)
					}
				})
			})
		}
	}
}

// A connection that is half open in a bucket that goes sends no SYN-ACK when
// that one comes back; those of other buckets stay.
func TestHalfOpenConnectionsAreDisowned(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		w.serve()
		p := w.plane()
		s := webOf(v6, all16(), hashmode.Set{}, hashmode.Set{})
		leased(t, p, 1, s)
		o := w.observer()
		for b := range hashmode.Bucket(4) {
			if o.passed(tcp(clientOfIP(v6, ownAll().Hash, b, 0), nfttest.SYN)) != 1 {
				t.Fatalf("SYN of bucket %d does not pass", b)
			}
		}
		open := func() (found hashmode.Set) {
			must(t, p.ns.do(func() error {
				for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
					sockets, err := socketsIn(halfOpen, family)
					must(t, err)
					for _, each := range sockets {
						found.Add(s.Hash.Bucket(each.ends.client, 80))
					}
				}
				return nil
			}))
			return found
		}
		eventually(t, "all half open", func() bool { return open().String() == "0-3" })
		lost := hashmode.NewSet(1, 2, 3)
		now := s
		now.Own = s.Own.Minus(hashmode.NewSet(1, 2)) // 3 is back
		must(t, p.Disown([]Service{now}, map[string]hashmode.Set{s.Name: lost}))
		if left := open(); left.String() != "0,3" {
			t.Errorf("half open are those of %v", left)
		}
	})
}
