package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// roleAsk is this program as the load client: written for little else than to
// leave the processor to what is measured. Its order comes on standard input.
const roleAsk = "ask"

// order says what a load client does.
type order struct {
	Target    netip.AddrPort
	Sources   []netip.Addr  // one connection at a time from each
	Keepalive bool          // else each connection serves one request
	Warmup    time.Duration // not counted
	Span      time.Duration // counted
}

// askTimeout is when a request is given up.
const askTimeout = 3 * time.Second

// answers are what a load client got.
type answers struct {
	Requests int
	Failed   int
	Error    string // one of the failures, for people
	Span     time.Duration
	P50, P99 time.Duration
	Nodes    map[string]int
}

// playAsk plays the role.
func playAsk([]string) int {
	var o order
	err := json.NewDecoder(os.Stdin).Decode(&o)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(o.carryOut())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitFailed
	}
	return 0
}

// carryOut asks from all sources at once.
func (o order) carryOut() answers {
	begin := time.Now().Add(o.Warmup)
	end := begin.Add(o.Span)
	askers := make([]*asker, len(o.Sources))
	var running sync.WaitGroup
	for i, source := range o.Sources {
		a := &asker{order: o, source: source, begin: begin, nodes: map[string]int{}, in: bufio.NewReaderSize(nil, 4096)}
		askers[i] = a
		running.Go(func() { a.run(end) })
	}
	running.Wait()
	return o.sum(askers)
}

// sum adds up what all askers got.
func (o order) sum(askers []*asker) answers {
	s := answers{Span: o.Span, Nodes: map[string]int{}}
	var all []time.Duration
	for _, a := range askers {
		all = append(all, a.latencies...)
		s.Failed += a.failed
		if a.err != nil {
			s.Error = a.err.Error()
		}
		for node, n := range a.nodes {
			s.Nodes[node] += n
		}
	}
	if s.Requests = len(all); s.Requests > 0 {
		slices.Sort(all)
		s.P50, s.P99 = all[len(all)/2], all[len(all)*99/100]
	}
	return s
}

// asker asks from one source, one request after the other.
type asker struct {
	order
	source    netip.Addr
	begin     time.Time
	conn      net.Conn // nil: to be opened
	in        *bufio.Reader
	latencies []time.Duration
	failed    int
	err       error
	nodes     map[string]int
}

func (a *asker) run(end time.Time) {
	request := fmt.Appendf(nil, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: %s\r\n\r\n",
		a.Target.Addr(), map[bool]string{true: "keep-alive", false: "close"}[a.Keepalive])
	for {
		start := time.Now()
		if start.After(end) {
			break
		}
		node, err := a.once(request, start)
		if err != nil || !a.Keepalive {
			a.hangUp()
		}
		now := time.Now()
		switch {
		case err != nil:
			a.failed++
			a.err = err
		case now.After(a.begin) && now.Before(end):
			a.latencies = append(a.latencies, now.Sub(start))
			a.nodes[node]++
		}
	}
	a.hangUp()
}

func (a *asker) hangUp() {
	if a.conn != nil {
		a.conn.Close()
		a.conn = nil
	}
}

// once makes one request, on the open connection if there is one.
func (a *asker) once(request []byte, start time.Time) (string, error) {
	if a.conn == nil {
		d := net.Dialer{
			Deadline: start.Add(askTimeout), KeepAlive: -1, Control: bindLate,
			LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(a.source, 0)),
		}
		conn, err := d.Dial("tcp", a.Target.String())
		if err != nil {
			return "", err
		}
		a.conn = conn
		a.in.Reset(conn)
	}
	if err := a.conn.SetDeadline(start.Add(askTimeout)); err != nil {
		return "", err
	}
	if _, err := a.conn.Write(request); err != nil {
		return "", err
	}
	return readAnswer(a.in)
}

// bindLate has the kernel choose the port when it connects: ports that are in
// use towards another target are free for this one.
func bindLate(_, _ string, conn syscall.RawConn) error {
	var inner error
	err := conn.Control(func(fd uintptr) {
		inner = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	})
	return errors.Join(err, inner)
}

// readAnswer reads a whole HTTP answer with status 200 and returns the node that
// it names.
func readAnswer(in *bufio.Reader) (node string, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
		return "", fmt.Errorf("answer: %q", line)
	}
	length := -1
	for {
		if line, err = in.ReadSlice('\n'); err != nil {
			return "", err
		}
		key, value, ok := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(": "))
		switch {
		case len(line) <= 2:
			if length < 0 {
				return "", errors.New("answer without a length")
			}
			_, err = in.Discard(length)
			return node, err
		case ok && bytes.EqualFold(key, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return "", err
			}
		case ok && bytes.EqualFold(key, []byte("X-Earshot-Node")):
			node = string(value)
		}
	}
}
