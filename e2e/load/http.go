package load

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// request opens a connection, asks once and closes it. One that has begun is
// carried through when the generator is stopped.
func (p Plan) request(_ context.Context, _ int, source netip.Addr, report func(Record)) {
	r := Record{Start: time.Now(), Client: netip.AddrPortFrom(source, 0)}
	conn, err := p.connect(&r)
	if err == nil {
		err = p.exchange(conn, bufio.NewReader(conn), &r, "close")
		conn.Close()
	}
	r.finish(err)
	report(r)
}

// connect opens a connection from the record's client and notes its port.
func (p Plan) connect(r *Record) (net.Conn, error) {
	d := net.Dialer{
		Deadline:  r.Start.Add(p.Timeout),
		LocalAddr: net.TCPAddrFromAddrPort(r.Client),
		KeepAlive: -1, // no packets but those of the requests
	}
	conn, err := d.Dial("tcp", p.Target.String())
	if err != nil {
		return nil, err
	}
	r.Client = conn.LocalAddr().(*net.TCPAddr).AddrPort()
	return conn, nil
}

// exchange sends one request and reads the whole answer.
func (p Plan) exchange(conn net.Conn, in *bufio.Reader, r *Record, connection string) error {
	if err := conn.SetDeadline(r.Start.Add(p.Timeout)); err != nil {
		return err
	}
	_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: %s\r\n\r\n", p.Path, p.Target, connection)
	if err != nil {
		return err
	}
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	r.Node = answer.Header.Get(nodeHeader)
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("answer: %s", answer.Status)
	}
	return nil
}

// finish notes how long the request took, unless that was noted when the answer
// came, and what became of it.
func (r *Record) finish(err error) {
	if r.Latency == 0 {
		r.Latency = time.Since(r.Start)
	}
	if err != nil {
		r.fail(err)
	}
}
