package nft

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"

	"earshot/hashmode"
	"earshot/nft/nfttest"
)

var badFrames = flag.Int("badframes", 8000, "bad frames to send, for each family")

// Bad frames (truncated, with wrong lengths, odd options and headers,
// fragments that overlap, random bytes) crash nothing, make no answer without
// a lease (I4), and leave the service as it was (I7).
func TestBadFrames(t *testing.T) {
	eachIP(t, func(t *testing.T, v6 bool) {
		w := newWorld(t)
		w.serve()
		p := w.plane()
		s := webOf(v6, all16(), hashmode.Set{}, hashmode.Set{})
		rs := Ruleset{Index: 1, Services: []Service{s}}
		must(t, p.Apply(rs))
		o := w.observer()
		warned := nfttest.KernelWarnings(t)
		bad := nfttest.NewBadFrames(s.Address, w.clientMAC, s.MAC, func(n uint32) netip.Addr { return remote(v6, n) })
		conn, _ := w.raw()
		send := func() {
			frame := bad.Next()
			// What the client's own kernel or interface refuses to send is not sent.
			_, _ = conn.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])})
		}
		silence := w.voice(s)
		for range *badFrames / 4 {
			send()
		}
		if said := silence(); said != "" {
			t.Errorf("without a lease the node said %s", said)
		}
		must(t, p.Lease(time.Now().Add(time.Hour)))
		begun := time.Now()
		for range *badFrames {
			send()
		}
		t.Logf("%.0f frames/s, seed %d", float64(*badFrames)/time.Since(begun).Seconds(), bad.Seed)
		w.handshake(o, clientOfIP(v6, s.Hash, 3, 0))
		w.mustHold(rs)
		if text := warned(); text != "" {
			t.Errorf("the kernel warned: %s", text)
		}
	})
}

// voice returns what tells of a frame, since, that came from the address or
// said where it is.
func (w *world) voice(s Service) func() string {
	w.t.Helper()
	conn, _ := w.raw()
	return func() string {
		buf := make([]byte, 70000)
		must(w.t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		for {
			n, from, err := conn.ReadFrom(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return ""
			}
			must(w.t, err)
			var frame ethernet.Frame
			if from.(*packet.Addr).HardwareAddr.String() != w.nodeMAC.String() || frame.UnmarshalBinary(buf[:n]) != nil {
				continue
			}
			source := buf[26:30]
			if s.Address.Is6() {
				source = buf[22:38]
			}
			if addr, _ := netip.AddrFromSlice(source); addr == s.Address || (asker{address: address{Addr: s.Address}}).claim(frame) != nil {
				return fmt.Sprintf("%x", buf[:n])
			}
		}
	}
}
