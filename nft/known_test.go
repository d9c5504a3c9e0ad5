package nft

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/nftables"
	"github.com/mdlayher/packet"

	"earshot/hashmode"
	"earshot/nft/nfttest"
)

// flows sends one packet each of n clients to the node, and returns their
// flows once conntrack has them all.
func (w *world) flows(p *Plane, v6 bool, n int) []Flow {
	w.t.Helper()
	send := w.sender()
	var flows []Flow
	for i := range n {
		from := netip.AddrPortFrom(remote(v6, uint32(1+i%1000)), uint16(2000+i/1000))
		send(udp(from, 80))
		flows = append(flows, flowOf(udp(from, 80)))
	}
	eventually(w.t, "flows", func() bool {
		known, err := p.Known(flows)
		must(w.t, err)
		return !hasFalse(known)
	})
	return flows
}

func hasFalse(all []bool) bool {
	for _, b := range all {
		if !b {
			return true
		}
	}
	return false
}

// Thousands of flows are told from as many that nobody has.
func TestKnown(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		w.serve()
		p := w.plane()
		leased(t, p, 1, webOf(v6, all16(), hashmode.Set{}, hashmode.Set{}))
		have := w.flows(p, v6, 3000)
		var asked []Flow
		var want []bool
		for i, f := range have {
			other := f
			switch i % 4 {
			case 0:
				other.Client = netip.AddrPortFrom(f.Client.Addr(), f.Client.Port()+1000)
			case 1:
				other.Protocol = TCP
			case 2:
				other.Client = netip.AddrPortFrom(remote(v6, uint32(5000+i)), f.Client.Port())
			case 3:
				other.Server = netip.AddrPortFrom(f.Server.Addr(), 81)
			}
			asked, want = append(asked, f, other), append(want, true, false)
		}
		known, err := p.Known(asked)
		must(t, err)
		if len(known) != len(want) {
			t.Fatalf("%d answers to %d questions", len(known), len(want))
		}
		for i := range want {
			if known[i] != want[i] {
				t.Fatalf("%+v: known is %v", asked[i], known[i])
			}
		}
	})
}

// A TCP flow is known from the SYN on until some time after it has been reset or
// closed: for as long as its SYN may be held by another node. One that was refused
// conntrack forgets at once.
func TestKnownTCP(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		w.serve()
		p := w.plane()
		leased(t, p, 1, webOf(v6, all16(), hashmode.Set{}, hashmode.Set{}))
		o := w.observer()
		known := func(f Flow) bool {
			t.Helper()
			k, err := p.Known([]Flow{f})
			must(t, err)
			return k[0]
		}
		client := clientOfIP(v6, ownAll().Hash, 3, 0)
		flow := flowOf(tcp(client, nfttest.SYN))
		if known(flow) {
			t.Fatal("known before it began")
		}
		data := w.handshake(o, client)
		if !known(flow) {
			t.Fatal("not known")
		}
		reset := data
		reset.Flags, reset.Payload = nfttest.RST, nil
		if o.passed(reset) != 1 || !known(flow) {
			t.Fatal("not known when it has just been reset")
		}
		refused := tcp(clientOfIP(v6, ownAll().Hash, 3, 1), nfttest.SYN)
		refused.To = to(refused.From, 81) // where nobody listens
		if o.passed(refused) != 1 || known(flowOf(refused)) {
			t.Fatal("known when it was refused")
		}
		eventually(t, "reset for long", func() bool { return !known(flow) })
	})
}

// Foreign frames make no entry in conntrack, of whatever kind.
func TestForeignFramesLeaveConntrackAlone(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		w.serve()
		p := w.plane()
		s := webOf(v6, buckets(0, 0), hashmode.Set{}, hashmode.Set{})
		leasedHold(t, p, s)
		o := w.observer()
		o.passed(udp(clientOfIP(v6, ownAll().Hash, 0, 0), 80)) // and the marker's flow
		before, err := p.Conntrack()
		must(t, err)
		if before.Count == 0 || before.Max < before.Count || before.NearlyFull() {
			t.Fatalf("conntrack: %+v", before)
		}
		send := w.sender()
		for i := range 2000 {
			from := netip.AddrPortFrom(remote(v6, uint32(1+i)), 3000)
			fragments := udp(from, 80)
			fragments.Fragments, fragments.ID = 24, uint16(i)
			for _, packet := range []nfttest.Packet{tcp(from, nfttest.SYN), udp(from, 80), nfttest.Echo(from, to(from, 0).Addr(), 7, 1), fragments} {
				_, spec := (address{Services: []Service{webOf(v6, all16(), hashmode.Set{}, hashmode.Set{})}}).decider(packet.Protocol, packet.To.Port())
				if spec.Bucket(packet.From, packet.To.Port()) != 0 {
					send(packet)
				}
			}
		}
		o.passed(udp(clientOfIP(v6, ownAll().Hash, 0, 0), 80))
		flows, err := p.Flows([]Service{s})
		must(t, err)
		if got, want := fmt.Sprint(flows[s.Name]), fmt.Sprint(map[hashmode.Bucket]FlowCount{0: {Other: 1}}); got != want {
			t.Errorf("flows to the service: %s, want %s", got, want)
		}
		after, err := p.Conntrack()
		must(t, err)
		// The node itself may have sent a membership report or the like.
		if after.Count > before.Count+5 {
			t.Errorf("conntrack went from %d to %d entries", before.Count, after.Count)
		}
	})
}

// Once a bucket has been given away and the barrier has passed, "not mine" is
// final: no packet that was under way opens a flow after it.
func TestBarrier(t *testing.T) {
	for name, barrier := range map[string]func(*Plane) error{"membarrier": (*Plane).Barrier, "slow": (*Plane).slowBarrier} {
		t.Run(name, func(t *testing.T) { barrierHolds(t, barrier) })
	}
}

func barrierHolds(t *testing.T, barrier func(*Plane) error) {
	const rounds, perRound, senders, last = 24, 4000, 2, 16
	w := newWorld(t)
	w.delay()
	p := w.plane()
	s := big(0, 1023)
	leasedHold(t, p, s)
	clients := clientsByBucket(s.Hash, 1024/rounds, rounds, perRound*senders)
	conns := []*packet.Conn{}
	for range senders {
		conn, _ := w.raw()
		conns = append(conns, conn)
	}
	var round atomic.Int32
	var sent [senders][rounds]atomic.Int32
	var sending sync.WaitGroup
	for i, conn := range conns {
		sending.Go(func() {
			mac := w.clusterMAC(shared())
			for {
				r := round.Load()
				if r == rounds {
					return
				}
				n := sent[i][r].Load()
				client := clients[r][i*perRound+int(n)%perRound]
				if _, err := conn.WriteTo(udp(client, 80).Frames(w.clientMAC, mac)[0], &packet.Addr{HardwareAddr: mac}); err != nil {
					t.Error(err)
					return
				}
				sent[i][r].Add(1)
			}
		})
	}
	var denied []Flow
	for r := range rounds {
		eventually(t, "packets of the round", func() bool { return sent[0][r].Load() > last && sent[1][r].Load() > last })
		given := buckets(0, hashmode.Bucket((r+1)*(1024/rounds)-1))
		s.Own, s.Drain = hashmode.Range(0, 1023).Minus(given), given
		must(t, p.Apply(heldBy(uint64(r+2), s)))
		must(t, barrier(p))
		var flows []Flow
		for i := range senders {
			n := int(sent[i][r].Load())
			for k := n - last; k < n+last; k++ {
				flows = append(flows, flowOf(udp(clients[r][i*perRound+k%perRound], 80)))
			}
		}
		known, err := p.Known(flows)
		must(t, err)
		for i, yes := range known {
			if !yes {
				denied = append(denied, flows[i])
			}
		}
		round.Store(int32(r + 1))
	}
	sending.Wait()
	known, err := p.Known(denied)
	must(t, err)
	late := 0
	for _, yes := range known {
		if yes {
			late++
		}
	}
	t.Logf("%d flows denied", len(denied))
	if late > 0 || len(denied) == 0 {
		t.Errorf("of %d flows that the node had not, %d have come after all", len(denied), late)
	}
}

// delay makes the way of a packet to the shared address long between our rules
// and conntrack's confirmation of its flow: else it is a microsecond.
func (w *world) delay() {
	table := &nftables.Table{Name: "delay", Family: inet}
	w.node.Do(func() {
		c, err := nftables.New()
		must(w.t, err)
		c.AddTable(table)
		addChain(c, table, chain{name: "input", hook: &hook{num: *nftables.ChainHookInput, priority: -500}})
		slow := when(isIP(inet, false), ipDest(shared()), bucketHash(ownAll().Hash, inbound(), false), counter()).exprs()
		for range 150 {
			for range 100 { // more do not fit into a message
				c.AddRule(&nftables.Rule{Table: table, Chain: &nftables.Chain{Name: "input"}, Exprs: slow})
			}
			must(w.t, c.Flush())
		}
	})
}

// clientsByBucket finds so many clients each for groups of buckets.
func clientsByBucket(spec hashmode.Spec, perGroup, groups, each int) [][]netip.AddrPort {
	clients, missing := make([][]netip.AddrPort, groups), groups
	for i := uint32(1); missing > 0; i++ {
		for port := uint16(1024); port < 60000; port++ {
			client := netip.AddrPortFrom(remote(false, i), port)
			g := int(spec.Bucket(client, 80)) / perGroup
			if g < groups && len(clients[g]) < each {
				if clients[g] = append(clients[g], client); len(clients[g]) == each {
					missing--
				}
			}
		}
	}
	return clients
}

func BenchmarkKnown(b *testing.B) {
	for _, n := range []int{1, 100, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := newWorld(b)
			p := w.plane()
			must(b, p.Apply(Ruleset{Index: 1, Services: []Service{ownAll()}}))
			leaseLong(b, p)
			flows := w.flows(p, false, n)
			for b.Loop() {
				_, err := p.Known(flows)
				must(b, err)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/flow")
		})
	}
}
