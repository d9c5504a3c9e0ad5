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
)

// Clients that wait for an answer of a server that hangs learn at once that
// there is none, when their bucket is given away. Others notice nothing, nor
// do connections to the node's own address.
func TestResetReachesClientsThatWait(t *testing.T) { eachIP(t, resetReachesClients) }

func resetReachesClients(t *testing.T, v6 bool) {
	w := newWorld(t)
	p := w.plane()
	service := webOf(v6, all16(), hashmode.Set{}, hashmode.Set{})
	leased(t, p, 1, service)
	w.believe(service.Address, service.MAC)
	w.serveEcho()
	connect := func(to netip.Addr) net.Conn {
		var c net.Conn
		w.client.Do(func() {
			var err error
			c, err = net.DialTimeout("tcp", netip.AddrPortFrom(to, 80).String(), 5*time.Second)
			must(t, err)
		})
		t.Cleanup(func() { c.Close() })
		echoes(t, c)
		return c
	}
	given := hashmode.Range(0, 7)
	direct := connect(nodeAddr(v6))
	var lost, kept []net.Conn
	for len(lost) < 3 || len(kept) < 3 {
		c := connect(service.Address)
		if given.Has(service.Hash.Bucket(c.LocalAddr().(*net.TCPAddr).AddrPort(), 80)) {
			lost = append(lost, c)
		} else {
			kept = append(kept, c)
		}
	}
	later := webOf(v6, hashmode.Range(8, 15), hashmode.Set{}, given)
	must(t, p.Apply(Ruleset{Index: 2, Services: []Service{later}}))
	n, err := p.Reset([]Service{later}, later.Name, given)
	if err != nil || n != len(lost) {
		t.Fatalf("%d connections reset of %d, %v", n, len(lost), err)
	}
	for _, c := range lost {
		must(t, c.SetDeadline(time.Now().Add(5*time.Second)))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("the client of a bucket that was given away hears %v", err)
		}
	}
	for _, c := range append(kept, direct) {
		echoes(t, c)
	}
	if n, err := p.Reset([]Service{later}, later.Name, given); err != nil || n != 0 {
		t.Errorf("once more: %d connections, %v", n, err)
	}
}

// echoes demands that a connection works.
func echoes(t *testing.T, c net.Conn) {
	t.Helper()
	must(t, c.SetDeadline(time.Now().Add(5*time.Second)))
	_, err := c.Write([]byte("x"))
	must(t, err)
	_, err = io.ReadFull(c, make([]byte, 1))
	must(t, err)
}
