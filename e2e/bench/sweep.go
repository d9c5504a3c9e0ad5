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
	"earshot/hashmode"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

const (
	sweepEvery = 10 * time.Millisecond // between two rounds of questions
	// scout is the step between the buckets that are asked in until one is
	// answered: before that, all would only disturb.
	scout = 32
	// hush is how long nobody may answer for all leases to be over.
	hush = 100 * time.Millisecond
)

// sweep asks in every bucket of the service, by an echo request from an address
// that the hash puts there, and notes when each was first answered.
type sweep struct {
	conn    *ipv4.PacketConn
	sources []netip.Addr // per bucket

	mu       sync.Mutex
	id       int // of the requests; answers to earlier ones do not count
	answered []bool
	count    int
	last     time.Time // of the newest first answer
}

// newSweep opens a sweep from a client.
func newSweep(c *lab.Client, spec hashmode.Spec) (*sweep, error) {
	s := &sweep{answered: make([]bool, spec.Buckets)}
	var err error
	if s.sources, err = coverage(c, spec); err != nil {
		return nil, err
	}
	if err := c.Do(func() error { return knowMAC(c.Port.Device) }); err != nil {
		return nil, fmt.Errorf("set cluster MAC: %w", err)
	}
	conn, err := c.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return nil, err
	}
	s.conn = ipv4.NewPacketConn(conn)
	go s.read()
	return s, nil
}

// coverage finds a source address for each bucket.
func coverage(c *lab.Client, spec hashmode.Spec) ([]netip.Addr, error) {
	sources := make([]netip.Addr, spec.Buckets)
	left := spec.Buckets
	for i := range 1<<(32-c.Sources.Bits()) - 2 {
		source := c.Source(i)
		b := spec.Bucket(netip.AddrPortFrom(source, 0), 0)
		if !sources[b].IsValid() {
			sources[b] = source
			left--
		}
		if left == 0 {
			return sources, nil
		}
	}
	return nil, fmt.Errorf("%d buckets that no address of %s falls into", left, c.Sources)
}

// knowMAC gives the current namespace the shared address's MAC for good.
func knowMAC(device string) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	mac, err := net.ParseMAC(clusterMAC)
	if err != nil {
		return err
	}
	return netlink.NeighSet(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, IP: shared.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT,
	})
}

// read notes answers until the sweep is closed.
func (s *sweep) read() {
	buf := make([]byte, 256)
	for {
		n, _, _, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		m, err := icmp.ParseMessage(1, buf[:n])
		if err != nil || m.Type != ipv4.ICMPTypeEchoReply {
			continue
		}
		if e, ok := m.Body.(*icmp.Echo); ok {
			s.note(e.ID, e.Seq)
		}
	}
}

// note enters the answer in a bucket.
func (s *sweep) note(id, bucket int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id != s.id || bucket >= len(s.answered) || s.answered[bucket] {
		return
	}
	s.answered[bucket] = true
	s.count++
	s.last = time.Now()
}

// reset forgets all answers.
func (s *sweep) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id++
	clear(s.answered)
	s.count = 0
}

// due are the buckets to ask in: those not answered yet, a few of them until
// there is a first answer.
func (s *sweep) due() (id int, buckets []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	step := 1
	if s.count == 0 {
		step = scout
	}
	for b := 0; b < len(s.answered); b += step {
		if !s.answered[b] {
			buckets = append(buckets, b)
		}
	}
	return s.id, buckets
}

// ask asks in every bucket that is due.
func (s *sweep) ask() error {
	id, due := s.due()
	for _, b := range due {
		m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: id, Seq: b}}
		frame, err := m.Marshal(nil)
		if err != nil {
			return err
		}
		from := &ipv4.ControlMessage{Src: s.sources[b].AsSlice()}
		if _, err := s.conn.WriteTo(frame, from, &net.IPAddr{IP: shared.AsSlice()}); err != nil {
			return fmt.Errorf("ask in bucket %d: %w", b, err)
		}
	}
	return nil
}

// finish asks until every bucket has been answered, and returns how long after
// a moment that was.
func (s *sweep) finish(ctx context.Context, since time.Time) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, formLimit)
	defer cancel()
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	s.reset()
	for {
		if err := s.ask(); err != nil {
			return 0, err
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%d of %d buckets answered: %w", s.total(), len(s.answered), ctx.Err())
		case <-tick.C:
		}
		if s.total() == len(s.answered) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.last.Sub(since), nil
		}
	}
}

// total is the number of buckets answered so far.
func (s *sweep) total() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// silence waits until nobody answers any more.
func (s *sweep) silence(ctx context.Context) error {
	return lab.Poll(ctx, formLimit, func() error {
		s.reset()
		if err := s.ask(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(hush):
		}
		if s.total() > 0 {
			return errors.New("somebody still answers")
		}
		return nil
	})
}

// close ends the sweep.
func (s *sweep) close() { s.conn.Close() }
