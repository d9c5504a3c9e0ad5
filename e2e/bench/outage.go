package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"earshot/e2e/lab"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

const (
	// probeEvery is the time between two questions of one client, and so the
	// resolution of an outage.
	probeEvery = 5 * time.Millisecond
	// outageLimit is when an outage is given up.
	outageLimit = 15 * time.Second
)

// outage asks from each of a set of clients, by an echo request every few
// milliseconds, and notes when each was first answered. An echo request has no
// retransmission that would blur the figure, and the kernel answers it alone.
type outage struct {
	conn    *ipv4.PacketConn
	clients []netip.Addr
	index   map[netip.Addr]int

	mu    sync.Mutex
	id    int // of the requests; answers to earlier ones do not count
	first []time.Time
	left  int
}

// newOutage opens the probe at a host for some of its source addresses.
func newOutage(c *lab.Client) (*outage, error) {
	conn, err := c.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return nil, err
	}
	p := &outage{conn: ipv4.NewPacketConn(conn)}
	if err := p.conn.SetControlMessage(ipv4.FlagDst, true); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	go p.read()
	return p, nil
}

// read notes answers until the probe is closed.
func (p *outage) read() {
	buf := make([]byte, 256)
	for {
		n, to, _, err := p.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		m, err := icmp.ParseMessage(1, buf[:n])
		if err != nil || m.Type != ipv4.ICMPTypeEchoReply || to == nil {
			continue
		}
		if e, ok := m.Body.(*icmp.Echo); ok {
			client, _ := netip.AddrFromSlice(to.Dst.To4())
			p.note(e.ID, client, time.Now())
		}
	}
}

// note enters an answer to a client.
func (p *outage) note(id int, client netip.Addr, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, known := p.index[client]
	if !known || id != p.id || !p.first[i].IsZero() {
		return
	}
	p.first[i] = at
	p.left--
}

// reset forgets all answers, and asks for these clients from now on.
func (p *outage) reset(clients []netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.id = (p.id + 1) & 0xffff
	p.clients, p.left, p.first = clients, len(clients), make([]time.Time, len(clients))
	p.index = map[netip.Addr]int{}
	for i, c := range clients {
		p.index[c] = i
	}
}

// due are the clients that have had no answer yet.
func (p *outage) due() (id int, clients []netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, c := range p.clients {
		if p.first[i].IsZero() {
			clients = append(clients, c)
		}
	}
	return p.id, clients
}

// ask asks for each client that is due.
func (p *outage) ask(round int) error {
	id, due := p.due()
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: id, Seq: round & 0xffff}}
	frame, err := m.Marshal(nil)
	if err != nil {
		return err
	}
	for _, client := range due {
		from := &ipv4.ControlMessage{Src: client.AsSlice()}
		_, err := p.conn.WriteTo(frame, from, &net.IPAddr{IP: shared.AsSlice()})
		if err != nil && !unreachable(err) {
			return fmt.Errorf("ask as %s: %w", client, err)
		}
	}
	return nil
}

// until asks until all of the clients have been answered, and returns how long
// after a moment the last of them was.
func (p *outage) until(ctx context.Context, clients []netip.Addr, since time.Time) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, outageLimit)
	defer cancel()
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	p.reset(clients)
	for round := 0; ; round++ {
		if err := p.ask(round); err != nil {
			return 0, err
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%d of %d clients are not answered: %w", p.waiting(), len(clients), context.Cause(ctx))
		case <-tick.C:
		}
		if p.waiting() == 0 {
			return p.last().Sub(since), nil
		}
	}
}

func (p *outage) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.left
}

// last is when the last client was first answered.
func (p *outage) last() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	var last time.Time
	for _, at := range p.first {
		if at.After(last) {
			last = at
		}
	}
	return last
}

// close ends the probe.
func (p *outage) close() { p.conn.Close() }
