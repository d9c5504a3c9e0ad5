package load

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// datagram asks once from a port of its own and listens for all answers.
func (p Plan) datagram(_ context.Context, number int, source netip.Addr, report func(Record)) {
	r := Record{Start: time.Now(), Client: netip.AddrPortFrom(source, 0)}
	r.finish(p.askDatagram(uint64(number), &r))
	report(r)
}

func (p Plan) askDatagram(id uint64, r *Record) error {
	conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(r.Client), net.UDPAddrFromAddrPort(p.Target))
	if err != nil {
		return err
	}
	defer conn.Close()
	r.Client = conn.LocalAddr().(*net.UDPAddr).AddrPort()
	if _, err := conn.Write(padded(question(id), p.Size)); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(r.Start.Add(p.Timeout)); err != nil {
		return err
	}
	buf := make([]byte, 2048)
	for {
		n, err := conn.Read(buf)
		if err != nil && r.Answers > 0 {
			return nil // nothing more came
		}
		if err != nil {
			return err
		}
		got, node, ok := parseEcho(buf[:n])
		if !ok || got != id {
			continue
		}
		if r.Answers++; r.Answers > 1 {
			continue
		}
		r.Node, r.Latency = node, time.Since(r.Start)
		if err := conn.SetReadDeadline(time.Now().Add(p.Linger)); err != nil {
			return err
		}
	}
}
