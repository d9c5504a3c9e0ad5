package nft

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"

	"earshot/nft/nfttest"
)

// A tap reads what comes to the client.
type tap struct {
	w    *world
	v6   bool
	conn *packet.Conn
}

func (w *world) listen(v6 bool) *tap {
	w.t.Helper()
	conn, _ := w.raw()
	return &tap{w, v6, conn}
}

// answers are the kinds of frames from the shared address since the last
// call, sorted: "mac" for what says that the address is at the cluster MAC,
// "echo", "own" for what the node itself sends from it. A frame from the node
// tells that all have come.
func (tp *tap) answers() []string {
	t := tp.w.t
	t.Helper()
	tp.w.node.Do(func() {
		c, err := net.Dial("udp4", clientIP+":7777")
		must(t, err)
		defer c.Close()
		_, err = c.Write([]byte("mark"))
		must(t, err)
	})
	var kinds []string
	buf := make([]byte, 2000)
	must(t, tp.conn.SetReadDeadline(time.Now().Add(5*time.Second)))
	for {
		n, from, err := tp.conn.ReadFrom(buf)
		must(t, err)
		if from.(*packet.Addr).HardwareAddr.String() != tp.w.nodeMAC.String() {
			continue
		}
		switch kind := kindOf(t, buf[:n], tp.v6); kind {
		case "mark":
			slices.Sort(kinds)
			return slices.Compact(kinds)
		case "":
		default:
			kinds = append(kinds, kind)
		}
	}
}

func kindOf(t testing.TB, f []byte, v6 bool) string {
	var frame ethernet.Frame
	must(t, frame.UnmarshalBinary(f))
	a := asker{address: address{Addr: sharedOf(v6)}}
	if v6 == (frame.EtherType == ethernet.EtherTypeIPv6) { // ARP is IPv4's
		if mac := a.claim(frame); mac != nil {
			if mac.String() != DefaultMAC(a.Addr).String() {
				return "mac " + mac.String()
			}
			return "mac"
		}
	}
	const eth, udpPort = 14, 2
	header, protocol, source := 20, 9, f[eth+12:eth+16]
	if frame.EtherType == ethernet.EtherTypeIPv6 {
		header, protocol, source = 40, 6, f[eth+8:eth+24]
	} else if frame.EtherType != ethernet.EtherTypeIPv4 {
		return ""
	}
	from, _ := netip.AddrFromSlice(source)
	switch body := f[eth+header:]; {
	case f[eth+protocol] == nfttest.ICMPOf(a.Addr) && (body[0] == 0 || body[0] == 129) && from == a.Addr:
		return "echo"
	case f[eth+protocol] != nfttest.UDP:
		return ""
	case int(body[udpPort])<<8|int(body[udpPort+1]) == 7777:
		return "mark"
	case int(body[udpPort])<<8|int(body[udpPort+1]) == 7778 && from == a.Addr:
		return "own"
	}
	return ""
}

// ask asks who has the shared address.
func (w *world) ask(s Service) {
	w.t.Helper()
	w.client.Do(func() {
		a, err := newAsker(address{Addr: s.Address, Interface: "c1", MAC: s.MAC})
		must(w.t, err)
		defer a.conn.Close()
		must(w.t, a.ask())
	})
}

// speak has the node send from the shared address of its own accord.
func (w *world) speak(v6 bool) {
	w.t.Helper()
	w.node.Do(func() {
		c, err := net.ListenPacket("udp", netip.AddrPortFrom(sharedOf(v6), 0).String())
		must(w.t, err)
		defer c.Close()
		// Without a lease the kernel says "operation not permitted".
		_, _ = c.WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(clientAddr(v6), 7778)))
	})
}
