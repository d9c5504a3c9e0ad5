package nft

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"earshot/hashmode"
	"earshot/nft/nfttest"
)

// Datagrams that the client's kernel sends as one (GSO) wait as one, and all
// of them arrive.
func TestHoldJoinedPackets(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		const datagrams, size = 10, 1000
		w := newWorld(t)
		p := w.plane()
		s := webOf(v6, hashmode.Set{}, hashmode.Set{}, hashmode.Set{})
		s.Take = all16()
		leasedHold(t, p, s)
		k := w.keep(p)
		w.believe(s.Address, s.MAC)
		var server net.PacketConn
		w.node.Do(func() {
			var err error
			server, err = net.ListenPacket("udp", netip.AddrPortFrom(s.Address, 80).String())
			must(t, err)
		})
		defer server.Close()
		w.client.Do(func() {
			c, err := net.Dial("udp", netip.AddrPortFrom(s.Address, 80).String())
			must(t, err)
			defer c.Close()
			raw, err := c.(*net.UDPConn).SyscallConn()
			must(t, err)
			var optErr error
			must(t, raw.Control(func(fd uintptr) { optErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, size) }))
			must(t, optErr)
			_, err = c.Write(make([]byte, datagrams*size))
			must(t, err)
		})
		k.decide(Pass, k.wait(1)...)
		must(t, server.SetReadDeadline(time.Now().Add(5*time.Second)))
		for i := range datagrams {
			n, _, err := server.ReadFrom(make([]byte, 2*size))
			if err != nil || n != size {
				t.Fatalf("datagram %d: %d bytes, %v", i+1, n, err)
			}
		}
		if use := p.HoldUse(); use.Held != 1 {
			t.Errorf("use %+v", use)
		}
	})
}

// A flood at a moving bucket is held up to the rate, and counted beyond it;
// what opens TCP connections is held beside it.
func TestHoldRate(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	leasedHold(t, p, inState(false, "take", 5))
	// Nobody reads the queue: what is held is dropped, and counted before.
	p.holds.limit = time.Hour
	p.holds.reading.Store(true)
	must(t, p.holds.open())
	from := clientOf(ownAll().Hash, 5, 0)
	datagram, syn := w.flood(udp(from, 80)), w.flood(tcp(from, nfttest.SYN))
	send := func(n int, one func()) {
		for range n {
			one()
		}
	}
	// More come in a time than may be held in it: the burst, and the rate.
	tooMany := fmt.Sprintf("held: more than %d in a second", HoldRate)
	for sent := 0; w.dropped(tooMany) == 0; sent += HoldRate / 2 {
		if sent > 100*HoldRate {
			t.Fatalf("%d packets were sent, none was too many", sent)
		}
		send(HoldRate/2, datagram)
	}
	const syns = 1000
	for range syns {
		send(10, datagram)
		send(1, syn)
	}
	eventually(t, "all SYNs beside the flood held", func() bool {
		return w.dropped(fmt.Sprintf("held: SYN, queue %d", QueueNumber)) == syns
	})
}

// BenchmarkHold is the way of a packet through the queue with a Pass at once.
func BenchmarkHold(b *testing.B) {
	w := newWorld(b)
	p := w.plane()
	s := ownAll()
	must(b, p.Apply(heldBy(1, s)))
	leaseLong(b, p)
	w.queueAll()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	var decisions []Decision
	go func() {
		ended <- p.Hold(ctx, func() { close(ready) }, func(held []HeldPacket) {
			decisions = decisions[:0]
			for _, h := range held {
				decisions = append(decisions, Decision{h.ID, Pass})
			}
			must(b, p.Decide(decisions))
		})
	}()
	<-ready
	conn, _ := w.raw()
	mac := w.clusterMAC(s.Address)
	var frames [][]byte
	for port := range 1000 {
		frames = append(frames, udp(netip.AddrPortFrom(remote(false, 1), uint16(2000+port)), 80).Frames(w.clientMAC, mac)[0])
	}
	sent := uint64(0)
	for b.Loop() {
		for _, f := range frames {
			if _, err := conn.WriteTo(f, &packet.Addr{HardwareAddr: mac}); err != nil {
				b.Fatal(err)
			}
			sent++
		}
		eventually(b, "all passed", func() bool { return p.HoldUse().Passed == sent })
	}
	b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "packets/s")
	cancel()
	must(b, <-ended)
}

// queueAll puts all datagrams to the shared address into our queue, without
// the limit of our own rules.
func (w *world) queueAll() {
	table := &nftables.Table{Name: "all", Family: inet}
	w.node.Do(func() {
		c, err := nftables.New()
		must(w.t, err)
		c.AddTable(table)
		addChain(c, table, chain{name: "prerouting", hook: &hook{num: *nftables.ChainHookPrerouting, priority: -140}})
		c.AddRule(&nftables.Rule{Table: table, Chain: &nftables.Chain{Name: "prerouting"}, Exprs: when(isIP(inet, false), ipDest(shared()), hold(w.queue)).exprs()})
		must(w.t, c.Flush())
	})
}

// More flows of peers than are remembered are asked about again: no error.
func TestPeersFlowsWithoutNumber(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	must(t, p.Apply(heldBy(1, ownAll())))
	const atOnce = 10_000
	for from := uint32(0); from < theirsSize+2*atOnce; from += atOnce {
		var flows []Flow
		for i := range uint32(atOnce) {
			flows = append(flows, flowOf(udp(netip.AddrPortFrom(remote(false, from+i), 3000), 80)))
		}
		must(t, p.holds.remember(flows))
	}
	must(t, p.AskAgain())
	must(t, p.holds.remember([]Flow{flowOf(udp(clientOf(ownAll().Hash, 5, 0), 80))}))
}

// A drain counts the datagrams' flows that it keeps.
func TestDrainCountsDatagrams(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		w.serve()
		p := w.plane()
		leased(t, p, 1, webOf(v6, all16(), hashmode.Set{}, hashmode.Set{}))
		o := w.observer()
		client := clientOfIP(v6, ownAll().Hash, 5, 0)
		o.passed(udp(client, 80))
		s := inState(v6, "drain", 5)
		must(t, p.Apply(heldBy(2, s)))
		if o.passed(udp(client, 80)) != 1 || o.passed(udp(clientOfIP(v6, ownAll().Hash, 5, 1), 80)) != 0 {
			t.Error("not the known flow alone is served")
		}
		flows, err := p.Flows([]Service{s})
		must(t, err)
		if got := flows[s.Name][5]; got != (FlowCount{Other: 1}) {
			t.Errorf("flows %+v", got)
		}
	})
}
