package lab

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// ask asks the echo server at address from the client's i-th source.
func ask(c *Client, i int, address string) (string, error) {
	var text []byte
	err := c.Do(func() error {
		d := net.Dialer{
			LocalAddr: &net.TCPAddr{IP: c.Source(i).AsSlice()}, Timeout: 200 * time.Millisecond, FallbackDelay: -1,
		}
		conn, err := d.Dial("tcp", address)
		if err != nil {
			return err
		}
		defer conn.Close()
		text, err = io.ReadAll(conn)
		return err
	})
	return string(text), err
}

// serveEcho starts an echo server on every node.
func serveEcho(t *testing.T, l *Lab) {
	t.Helper()
	for _, n := range l.Nodes {
		if _, err := n.Namespace.Start(Command{Role: "echo", Args: []string{n.Name}, Log: n.Path("echo.log")}); err != nil {
			t.Fatal(err)
		}
	}
}

// Every node answers at its own address, whatever the client's source.
func TestEveryNodeIsReachedFromManySources(t *testing.T) {
	l := Start(t, Options{Nodes: 3, Clients: 2})
	serveEcho(t, l)
	for _, c := range l.Clients {
		for _, n := range l.Nodes {
			for _, i := range []int{0, 999, 65533} {
				address := net.JoinHostPort(n.Port.Addr.String(), "7")
				Eventually(t, 5*time.Second, "ask "+n.Name+" from "+c.Source(i).String(), func() error {
					got, err := ask(c, i, address)
					if err == nil && got != n.Name {
						t.Fatalf("%s answered as %q", n.Name, got)
					}
					return err
				})
			}
		}
	}
}

func TestIPv6IsReachedAtOnce(t *testing.T) {
	l := Start(t, Options{Nodes: 1, Clients: 1})
	serveEcho(t, l)
	Eventually(t, 5*time.Second, "dial over IPv6", func() error {
		conn, err := l.Clients[0].Dial(t.Context(), "tcp", net.JoinHostPort(l.Nodes[0].Port.IPv6.String(), "7"))
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// reach sends a datagram from one node to another's port 9 in the segment
// where the agents talk.
func reach(t *testing.T, from, to *Node) bool {
	t.Helper()
	in, err := to.ListenPacket("udp", net.JoinHostPort(to.Cluster.Addr.String(), "9"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	out, err := from.Dial(t.Context(), "udp", in.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := out.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := in.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	_, _, err = in.ReadFrom(make([]byte, 1))
	return err == nil
}

// A cut loses one direction and no other frame; healing brings it back.
func TestCutIsOneWay(t *testing.T) {
	for _, apart := range []bool{false, true} {
		l := Start(t, Options{Nodes: 3, Apart: apart})
		a, b, c := l.Nodes[0], l.Nodes[1], l.Nodes[2]
		// ARP goes both ways: let them know each other first.
		for _, pair := range [][2]*Node{{a, b}, {b, a}, {a, c}, {c, a}, {b, c}, {c, b}} {
			if !reach(t, pair[0], pair[1]) {
				t.Fatalf("%s does not reach %s", pair[0].Name, pair[1].Name)
			}
		}
		if err := l.Cut(a.Cluster, b.Cluster); err != nil {
			t.Fatal(err)
		}
		if reach(t, a, b) || !reach(t, b, a) || !reach(t, a, c) {
			t.Errorf("apart=%v: the cut is not just from %s to %s", apart, a.Name, b.Name)
		}
		if err := l.Isolate(c); err != nil {
			t.Fatal(err)
		}
		if reach(t, c, a) || reach(t, b, c) {
			t.Errorf("apart=%v: %s is not isolated", apart, c.Name)
		}
		if err := l.Heal(); err != nil {
			t.Fatal(err)
		}
		if !reach(t, a, b) || !reach(t, c, a) {
			t.Errorf("apart=%v: still cut after healing", apart)
		}
	}
}

func TestUnplugTakesTheCarrier(t *testing.T) {
	l := Start(t, Options{Nodes: 2})
	n := l.Nodes[0]
	carrier := func() error {
		return n.Do(func() error {
			ifi, err := net.InterfaceByName("eth1")
			if err == nil && ifi.Flags&net.FlagRunning == 0 {
				err = errors.New("no carrier")
			}
			return err
		})
	}
	Eventually(t, time.Second, "carrier", carrier)
	if err := n.Port.Unplug(); err != nil {
		t.Fatal(err)
	}
	Eventually(t, time.Second, "carrier lost", func() error {
		if carrier() == nil {
			return errors.New("carrier is up")
		}
		return nil
	})
	if err := n.Port.Replug(); err != nil {
		t.Fatal(err)
	}
	Eventually(t, time.Second, "carrier back", carrier)
}

// Snooping with a querier of its own: the setting is in the switch, and no
// place outside it.
func TestSnoopingIsSelectable(t *testing.T) {
	for _, snooping := range []bool{false, true} {
		l := Start(t, Options{Snooping: snooping})
		for attribute, want := range map[string]bool{"multicast_snooping": snooping, "multicast_querier": snooping} {
			err := l.fabric.onThread(func() error {
				text, err := os.ReadFile("/sys/class/net/service/bridge/" + attribute)
				if got := strings.TrimSpace(string(text)) == "1"; err == nil && got != want {
					t.Errorf("snooping=%v: %s is %v", snooping, attribute, got)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestProcessEndsAsAsked(t *testing.T) {
	l := Start(t, Options{Nodes: 1})
	n := l.Nodes[0]
	start := func() *Process {
		log := n.Path("wait.log")
		if err := os.RemoveAll(log); err != nil {
			t.Fatal(err)
		}
		p, err := n.Namespace.Start(Command{Role: "wait", Log: log})
		if err != nil {
			t.Fatal(err)
		}
		Eventually(t, 5*time.Second, "process waits", func() error {
			text, err := os.ReadFile(log)
			if err == nil && len(text) == 0 {
				err = errors.New("not yet")
			}
			return err
		})
		return p
	}
	if status, err := start().Stop(5 * time.Second); err != nil || status != 3 {
		t.Errorf("stop: status %d, %v", status, err)
	}
	p := start()
	if err := p.Kill(); err != nil {
		t.Error(err)
	}
	if status, err := p.Wait(context.Background()); err != nil || status != 128+9 {
		t.Errorf("kill: status %d, %v", status, err)
	}
	p = start()
	n.Close()
	if status, err := p.Wait(t.Context()); err != nil || status != 128+9 {
		t.Errorf("namespace closed: status %d, %v", status, err)
	}
	if err := n.Do(func() error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("Do in a closed namespace: %v", err)
	}
}

// Go never ends the main thread: a namespace that had it would keep its
// processes alive, and be kept itself.
func TestNamespacesKeepOffTheMainThread(t *testing.T) {
	var group errgroup.Group
	for range 64 {
		group.Go(func() error {
			n, err := NewNamespace("any")
			if err != nil {
				return err
			}
			defer n.Close()
			return n.onThread(func() error {
				if unix.Gettid() == unix.Getpid() {
					return errors.New("served by the main thread")
				}
				return nil
			})
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}
