package load

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

const protocolICMP = 1

// pinger sends echo requests from many sources over one raw socket.
type pinger struct {
	plan Plan
	conn *ipv4.PacketConn

	mu      sync.Mutex
	waiting map[int]chan<- netip.Addr // by sequence number: who was answered
}

// pinger opens the raw socket.
func (p Plan) pinger() (client, error) {
	conn, err := net.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return nil, err
	}
	s := &pinger{plan: p, conn: ipv4.NewPacketConn(conn), waiting: map[int]chan<- netip.Addr{}}
	if err := s.conn.SetControlMessage(ipv4.FlagDst, true); err != nil {
		return nil, err
	}
	go s.listen()
	return s.ping, nil
}

// listen hands answers to those who wait, until the process ends.
func (s *pinger) listen() {
	buf := make([]byte, 2048)
	for {
		n, to, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		message, err := icmp.ParseMessage(protocolICMP, buf[:n])
		if err != nil || from.String() != s.plan.Target.Addr().String() {
			continue
		}
		echo, ok := message.Body.(*icmp.Echo)
		if !ok || message.Type != ipv4.ICMPTypeEchoReply || echo.ID != identifier() {
			continue
		}
		client, _ := netip.AddrFromSlice(to.Dst)
		s.mu.Lock()
		waiter := s.waiting[echo.Seq]
		s.mu.Unlock()
		select {
		case waiter <- client.Unmap():
		default: // nobody waits any more
		}
	}
}

// identifier tells this generator's requests from others'.
func identifier() int { return os.Getpid() & 0xffff }

// ping sends one echo request and listens for all answers.
func (s *pinger) ping(_ context.Context, number int, source netip.Addr, report func(Record)) {
	r := Record{Start: time.Now(), Client: netip.AddrPortFrom(source, 0)}
	sequence := number & 0xffff
	answers := make(chan netip.Addr, 16)
	s.mu.Lock()
	s.waiting[sequence] = answers
	s.mu.Unlock()
	r.finish(s.ask(sequence, &r, answers))
	s.mu.Lock()
	delete(s.waiting, sequence)
	s.mu.Unlock()
	report(r)
}

func (s *pinger) ask(sequence int, r *Record, answers <-chan netip.Addr) error {
	message := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: identifier(), Seq: sequence, Data: []byte(echoMagic)}}
	packet, err := message.Marshal(nil)
	if err != nil {
		return err
	}
	source := &ipv4.ControlMessage{Src: r.Client.Addr().AsSlice()}
	if _, err := s.conn.WriteTo(packet, source, &net.IPAddr{IP: s.plan.Target.Addr().AsSlice()}); err != nil {
		return err
	}
	timer := time.NewTimer(s.plan.Timeout)
	defer timer.Stop()
	for {
		select {
		case who := <-answers:
			if who != r.Client.Addr() {
				continue
			}
			if r.Answers++; r.Answers == 1 {
				r.Latency = time.Since(r.Start)
				timer.Reset(s.plan.Linger)
			}
		case <-timer.C:
			if r.Answers == 0 {
				return os.ErrDeadlineExceeded
			}
			return nil
		}
	}
}
