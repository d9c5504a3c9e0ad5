package nft

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"earshot/nft/nfttest"
)

// So many that a transaction comes between two look-ups of a packet several
// times: without the second look, 15 to 130 packets fell in each test.
const betweenPackets, betweenChanges = 200_000, 2000

// A packet that comes while a renewal goes from one slot to the other finds
// the lease in one of them.
func TestNoPacketFallsBetweenTwoLeases(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	w.serve()
	leased(t, p, 1, ownAll())
	w.during(w.flood(udp(clientOf(ownAll().Hash, 5, 0), 80)), func(int) {
		must(t, p.Lease(time.Now().Add(time.Minute)))
	})
	if n := w.dropped("no lease"); n != 0 {
		t.Errorf("%d packets were dropped under a lease", n)
	}
}

// A packet of a known flow, a SYN-ACK and a datagram of the server's find their
// bucket whatever state it goes to from whatever other.
func TestNoPacketFallsBetweenTwoStates(t *testing.T) {
	client := clientOf(ownAll().Hash, 5, 0)
	// Each goes over to each of the others.
	states := []string{"own", "take", "own", "inherit", "own", "drain", "take", "inherit", "take", "drain", "inherit", "drain"}
	for _, c := range []struct {
		name, drop string
		packets    func(*world) func()
	}{
		{"known", "foreign bucket",
			func(w *world) func() { return w.flood(udp(client, 80)) }},
		{"SYN-ACK", "SYN-ACK: another node's bucket", // a bucket that was just given away answers what came before
			func(w *world) func() {
				return w.floodOut(nfttest.Packet{From: to(client, 80), To: client, Protocol: nfttest.TCP, Flags: nfttest.SYN | nfttest.ACK})
			}},
		{"datagram of the server's", "sent from another node's bucket",
			func(w *world) func() {
				return w.floodOut(nfttest.Packet{From: to(client, 80), To: client, Protocol: nfttest.UDP})
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			p := w.plane()
			w.serve()
			must(t, p.Apply(heldBy(1, ownAll())))
			leaseLong(t, p)
			if w.observer().passed(udp(client, 80)) != 1 {
				t.Fatal("the flow that is to be known was not opened")
			}
			w.during(c.packets(w), func(i int) {
				must(t, p.Apply(heldBy(uint64(i)+2, inState(false, states[i%len(states)], 5))))
			})
			if n := w.dropped(c.drop); n != 0 {
				t.Errorf("%d packets were dropped: %s", n, c.drop)
			}
		})
	}
}

// during sends packets while it changes something, until there were enough of
// both.
func (w *world) during(send func(), change func(i int)) {
	w.t.Helper()
	var sent atomic.Int64
	stop := make(chan struct{})
	var sending sync.WaitGroup
	sending.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			send()
			sent.Add(1)
		}
	})
	for i := 0; i < betweenChanges || sent.Load() < betweenPackets; i++ {
		change(i)
	}
	close(stop)
	sending.Wait()
}

// flood returns what sends a packet from the client.
func (w *world) flood(p nfttest.Packet) func() {
	conn, _ := w.raw()
	mac := w.clusterMAC(p.To.Addr())
	frame := p.Frames(w.clientMAC, mac)[0]
	return func() {
		if _, err := conn.WriteTo(frame, &packet.Addr{HardwareAddr: mac}); err != nil {
			w.t.Error(err)
		}
	}
}

// floodOut returns what sends a packet of IPv4 from the node. Whether it may
// leave is counted by the rules: a drop is an error to who sends it.
func (w *world) floodOut(p nfttest.Packet) func() {
	const eth = 14
	raw := p.Frames(w.nodeMAC, w.clientMAC)[0][eth:]
	var fd int
	w.node.Do(func() {
		var err error
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		must(w.t, err)
	})
	w.t.Cleanup(func() { unix.Close(fd) })
	dst := &unix.SockaddrInet4{Addr: p.To.Addr().As4()}
	return func() { _ = unix.Sendto(fd, raw, 0, dst) }
}
