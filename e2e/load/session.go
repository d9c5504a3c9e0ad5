package load

import (
	"bufio"
	"context"
	"net"
	"net/netip"
	"time"
)

// A session is an open flow that is asked on again and again.
type session interface {
	// ask makes one exchange by the record's start and the plan's timeout.
	ask(r *Record) error
	close()
}

// A rhythm says when a session is asked on.
type rhythm int

const (
	// byInterval asks once in each of the plan's intervals.
	byInterval rhythm = iota
	// byServer waits for what the server sends of its own accord.
	byServer
)

// keep opens a session and asks on it until the generator is stopped, and then
// once more: one that broke while nothing was asked is noticed. A session that
// fails is not opened again; a datagram that is not answered ends none.
func (p Plan) keep(pace rhythm, lossy bool, open func(number int, r *Record) (session, error)) client {
	return func(ctx context.Context, number int, source netip.Addr, report func(Record)) {
		r := Record{Start: time.Now(), Client: netip.AddrPortFrom(source, 0)}
		s, err := open(number, &r)
		if err != nil {
			r.finish(err)
			report(r)
			return
		}
		defer s.close()
		tick := time.NewTicker(p.Interval)
		defer tick.Stop()
		for last := false; ; {
			err := s.ask(&r)
			r.finish(err)
			report(r)
			if last || err != nil && !lossy {
				return
			}
			if pace == byServer {
				last = ctx.Err() != nil
			} else {
				select {
				case <-ctx.Done():
					last = true
				case <-tick.C:
				}
			}
			r = Record{Start: time.Now(), Client: r.Client}
		}
	}
}

// httpSession is a connection on which one request follows the other.
type httpSession struct {
	plan Plan
	conn net.Conn
	in   *bufio.Reader
}

func (p Plan) openHTTP(_ int, r *Record) (session, error) {
	conn, err := p.connect(r)
	if err != nil {
		return nil, err
	}
	return &httpSession{p, conn, bufio.NewReader(conn)}, nil
}

func (s *httpSession) ask(r *Record) error { return s.plan.exchange(s.conn, s.in, r, "keep-alive") }
func (s *httpSession) close()              { s.conn.Close() }
