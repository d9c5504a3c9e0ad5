package load

import (
	"net"
	"time"
)

// flowSession is one UDP socket that asks again and again: a flow of many
// packets.
type flowSession struct {
	plan Plan
	conn *net.UDPConn
	id   uint64 // of the last datagram
	buf  []byte
}

func (p Plan) openFlow(number int, r *Record) (session, error) {
	conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(r.Client), net.UDPAddrFromAddrPort(p.Target))
	if err != nil {
		return nil, err
	}
	r.Client = conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return &flowSession{plan: p, conn: conn, id: uint64(number) << 32, buf: make([]byte, 2048)}, nil
}

// ask sends a datagram and waits for its answer. Second answers are for the
// Witness to see.
func (s *flowSession) ask(r *Record) error {
	s.id++
	if _, err := s.conn.Write(question(s.id)); err != nil {
		return err
	}
	if err := s.conn.SetReadDeadline(r.Start.Add(s.plan.Timeout)); err != nil {
		return err
	}
	for {
		n, err := s.conn.Read(s.buf)
		if err != nil {
			return err
		}
		if id, node, ok := parseEcho(s.buf[:n]); ok && id == s.id {
			r.Node, r.Answers, r.Latency = node, 1, time.Since(r.Start)
			return nil
		}
	}
}

func (s *flowSession) close() { s.conn.Close() }
