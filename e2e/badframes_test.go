package e2e

import (
	bits "encoding/binary"
	"flag"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"earshot/e2e/lab"
	"earshot/e2e/load"
	"earshot/nft/nfttest"
)

var badFor = flag.Duration("badfor", 5*time.Second, "how long bad frames come")

const badRate = 10000 // frames per second

// Bad frames to the shared addresses, ten thousand a second and both families
// in turn: no agent ends, the kernel warns of nothing, and clients are
// answered as if there were none (I7).
func TestBadFramesUnderLoad(t *testing.T) {
	four, six := web("sourceip-sourceport", "tcp/80"), web("sourceip-sourceport", "tcp/80")
	six.Address = sixthAddr.String() + "/64"
	l := newCluster(t, lab.Options{Nodes: 3, Services: map[string]lab.Service{"four": four, "six": six}})
	c := l.Clients[0]
	if err := c.Behind(l, badNet6); err != nil {
		t.Fatal(err)
	}
	warned := nfttest.KernelWarnings(t)
	fourth, lasting := steady(l), held(l)
	fourth.Rate = 100
	sixth := fourth
	sixth.Target, sixth.Sources = netip.AddrPortFrom(sixthAddr, webPort), []netip.Addr{c.Port.IPv6}
	for _, p := range []*load.Plan{&fourth, &sixth, &lasting} {
		p.Timeout = formLimit // the frames are to harm nobody; how busy the machine is does not matter
	}
	news, news6, old := generate(t, l, fourth), generate(t, l, sixth), generate(t, l, lasting)
	spoil(t, l)
	noFailure(t, "new connections", finish(t, "new connections", news))
	noFailure(t, "new connections over IPv6", finish(t, "new connections over IPv6", news6))
	noFailure(t, "held connections", finish(t, "held connections", old))
	if text := warned(); text != "" {
		t.Errorf("the kernel warned: %s", text)
	}
	whole(t, l, moveLimit)
	complete(t, l, thousand(l, load.HTTP, webPort))
}

// badNet6 is where bad frames of IPv6 come from.
var badNet6 = netip.MustParsePrefix("fd00:39::/64")

// spoil sends bad frames from the first client's wire.
func spoil(t *testing.T, l *lab.Lab) {
	t.Helper()
	c := l.Clients[0]
	var conn *packet.Conn
	var ifi *net.Interface
	err := c.Do(func() (err error) {
		if ifi, err = net.InterfaceByName(c.Port.Device); err == nil {
			conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_LOOPBACK, nil)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var makers []*nfttest.BadFrames
	for name, address := range map[string]netip.Addr{"four": serviceAddr, "six": sixthAddr} {
		mac, err := net.ParseMAC(ask(t, l.Nodes[0]).service(name).MAC)
		if err != nil {
			t.Fatal(err)
		}
		makers = append(makers, nfttest.NewBadFrames(address, c.Port.MAC, mac, func(n uint32) netip.Addr {
			if address.Is6() {
				a := badNet6.Addr().As16()
				bits.BigEndian.PutUint32(a[12:], n)
				return netip.AddrFrom16(a)
			}
			return c.Source(1<<15 + int(n%(1<<14))) // none of those that ask
		}))
	}
	start := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	sent, refused := 0, 0
	for passed := time.Duration(0); passed < *badFor; <-tick.C {
		passed = time.Since(start)
		for due := sent + badRate/100; sent < min(due, int(passed.Seconds()*badRate)); sent++ {
			frame := makers[sent%len(makers)].Next()
			// What the client's own interface refuses to send is not sent.
			if _, err := conn.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])}); err != nil {
				refused++
			}
		}
	}
	took := time.Since(start)
	t.Logf("%d bad frames in %v: %.0f a second; %d not sent; seeds %d and %d",
		sent, took.Round(time.Millisecond), float64(sent)/took.Seconds(), refused, makers[0].Seed, makers[1].Seed)
	if sent == 0 || refused > sent/10 {
		t.Errorf("%d of %d frames were not sent", refused, sent)
	}
}
