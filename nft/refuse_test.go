package nft

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"earshot/hashmode"
	"earshot/nft/nfttest"
)

// refusing has a service refuse what opens a flow.
func refusing(s Service) Service {
	s.MayRefuse, s.Refuse = true, true
	return s
}

// While nobody can serve it, a client that asks a service with an ordinary
// kernel is refused at once. Whoever is there already goes on, and when it is
// well again everybody is served.
func TestRefusal(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		for name, share := range map[string]Service{
			"own":     webOf(v6, all16(), hashmode.Set{}, hashmode.Set{}),
			"inherit": webOf(v6, hashmode.Set{}, all16(), hashmode.Set{}),
		} {
			t.Run(name, func(t *testing.T) { refusal16(t, share) })
		}
	})
}

func refusal16(t *testing.T, share Service) {
	w := newWorld(t)
	p := w.plane()
	if !p.refuses {
		t.Fatal("this kernel cannot refuse")
	}
	well := share
	well.MayRefuse = true
	target := netip.AddrPortFrom(share.Address, 80).String()
	leased(t, p, 1, well)
	w.echo(target)
	tcpBefore, udpBefore := w.dial("tcp", target), w.dial("udp", target)
	must(t, talk(tcpBefore))
	must(t, talk(udpBefore))
	unanswered := w.dial("udp", target) // to conntrack, new still
	_, err := unanswered.Write([]byte(oneWay))
	must(t, err)

	must(t, p.Apply(Ruleset{Index: 2, Services: []Service{refusing(share)}}))
	w.mustHold(Ruleset{Index: 2, Services: []Service{refusing(share)}})
	w.client.Do(func() {
		if _, err := net.DialTimeout("tcp", target, 5*time.Second); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("a new connection: %v", err)
		}
	})
	if err := talk(w.dial("udp", target)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a new datagram: %v", err)
	}
	for name, c := range map[string]net.Conn{"TCP": tcpBefore, "UDP": udpBefore, "UDP, not answered yet": unanswered} {
		if err := talk(c); err != nil {
			t.Errorf("%s that was there before: %v", name, err)
		}
	}

	must(t, p.Apply(Ruleset{Index: 3, Services: []Service{well}}))
	for _, network := range []string{"tcp", "udp"} {
		if err := talk(w.dial(network, target)); err != nil {
			t.Errorf("%s, well again: %v", network, err)
		}
	}
}

// A bucket that is another node's is refused by that one alone.
func TestForeignBucketsAreNotRefused(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		p := w.plane()
		leased(t, p, 1, refusing(webOf(v6, buckets(0, 7), hashmode.Set{}, buckets(8, 9))))
		w.echo(netip.AddrPortFrom(sharedOf(v6), 80).String())
		hear := w.answers()
		send := w.sender()
		spec := webOf(v6, hashmode.Set{}, hashmode.Set{}, hashmode.Set{}).Hash
		for bucket, want := range map[hashmode.Bucket]bool{3: true, 8: false, 12: false} {
			client := clientOfIP(v6, spec, bucket, 0)
			send(tcp(client, nfttest.SYN))
			send(udp(client, 80))
			// Its own bucket is answered in any case: what comes later was decided about later.
			marker := clientOfIP(v6, spec, 5, int(bucket))
			send(tcp(marker, nfttest.SYN))
			heard := hear(marker.Addr())
			if got := heard[client.Addr()]; got != want {
				t.Errorf("bucket %d: answered is %v", bucket, got)
			}
		}
	})
}

// A packet that was held is refused when it is passed.
func TestAHeldPacketIsRefused(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	k := w.keep(p)
	service := web(hashmode.Set{}, hashmode.Set{}, hashmode.Set{})
	service.Take = all16()
	leasedHold(t, p, refusing(service))
	target := netip.AddrPortFrom(service.Address, 80).String()
	w.echo(target)
	refused := make(chan error, 1)
	go w.client.Do(func() {
		_, err := net.DialTimeout("tcp", target, 5*time.Second)
		refused <- err
	})
	k.decide(Pass, k.wait(1)...)
	if err := <-refused; !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("it was answered with %v", err)
	}
}

// A kernel that cannot refuse is left without the rules, and answers.
func TestKernelThatCannotRefuse(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	p.refuses = false
	service := web(all16(), hashmode.Set{}, hashmode.Set{})
	target := netip.AddrPortFrom(service.Address, 80).String()
	leased(t, p, 1, refusing(service))
	w.echo(target)
	must(t, talk(w.dial("tcp", target)))
}

// oneWay is a datagram that echo does not answer.
const oneWay = "one way"

// echo serves an address of the node, TCP and UDP.
func (w *world) echo(target string) {
	w.t.Helper()
	w.node.Do(func() {
		l, err := net.Listen("tcp", target)
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
		u, err := net.ListenPacket("udp", target) // else it would answer from another address
		must(w.t, err)
		w.t.Cleanup(func() { u.Close() })
		go func() {
			b := make([]byte, 100)
			for {
				n, from, err := u.ReadFrom(b)
				if err != nil {
					return
				}
				if string(b[:n]) != oneWay {
					_, _ = u.WriteTo(b[:n], from)
				}
			}
		}()
	})
}

// dial connects the client.
func (w *world) dial(network, target string) net.Conn {
	w.t.Helper()
	var c net.Conn
	w.client.Do(func() {
		var err error
		c, err = net.DialTimeout(network, target, 5*time.Second)
		must(w.t, err)
	})
	w.t.Cleanup(func() { c.Close() })
	return c
}

// talk sends a word and has it sent back.
func talk(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 5))
	return err
}

// answers returns what hears, until the marked client is answered, which
// clients the shared addresses have answered.
func (w *world) answers() func(marker netip.Addr) map[netip.Addr]bool {
	w.t.Helper()
	conn, _ := w.raw()
	return func(marker netip.Addr) map[netip.Addr]bool {
		heard := map[netip.Addr]bool{}
		must(w.t, conn.SetReadDeadline(time.Now().Add(5*time.Second)))
		for !heard[marker] {
			b := make([]byte, 2000)
			n, _, err := conn.ReadFrom(b)
			must(w.t, err)
			if from, to, ok := endsOf(b[:n]); ok && from == sharedOf(from.Is6()) {
				heard[to] = true
			}
		}
		return heard
	}
}

// endsOf reads the addresses of a frame with an IP packet.
func endsOf(frame []byte) (from, to netip.Addr, ok bool) {
	first, length := 14+12, 4
	if len(frame) > 14 && frame[12] == 0x86 {
		first, length = 14+8, 16
	}
	if len(frame) < first+2*length {
		return from, to, false
	}
	from, _ = netip.AddrFromSlice(frame[first : first+length])
	to, ok = netip.AddrFromSlice(frame[first+length : first+2*length])
	return from, to, ok
}
