package nft

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// querierGone is how long a querier is remembered: it asks every 125 s by
	// default, and is taken for gone after twice that.
	querierGone = 260 * time.Second
	// reopen is the time between two tries to listen on an interface.
	reopen = time.Second
	// mostQueriers bounds what is remembered of a segment that lies.
	mostQueriers = 8

	igmpQuery = 0x11
	mldQuery  = 130
)

func word32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }

// queriers are those who ask for group members, by interface and family. With
// one about, switches that snoop forward multicast to members alone.
type queriers struct {
	mu    sync.Mutex
	since map[string]time.Time // by interface
	heard map[querierKey]time.Time
}

type querierKey struct {
	ifname string
	addr   netip.Addr
	mac    string
}

// Run listens for queriers on the interfaces until ctx ends. They ask seldom,
// and a busy interface's other frames are left to the kernel's filter.
func (e *Ears) Run(ctx context.Context, interfaces []string) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, ifname := range interfaces {
		g.Go(func() error {
			e.queriers.watch(ctx, ifname)
			return nil
		})
	}
	return g.Wait()
}

// watch listens on one interface, which may come and go.
func (q *queriers) watch(ctx context.Context, ifname string) {
	for ctx.Err() == nil {
		if ifi, err := net.InterfaceByName(ifname); err == nil {
			if conn, err := listenAll(ifi, queryFilter()); err == nil {
				q.listen(ctx, conn, ifname)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(reopen):
		}
	}
}

// listen reads until the interface is gone or ctx ends.
func (q *queriers) listen(ctx context.Context, conn *packet.Conn, ifname string) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
	defer stop()
	q.mu.Lock()
	if q.since == nil {
		q.since, q.heard = map[string]time.Time{}, map[querierKey]time.Time{}
	}
	if _, ok := q.since[ifname]; !ok {
		q.since[ifname] = time.Now()
	}
	q.mu.Unlock()
	buf := make([]byte, 256)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if addr, mac, ok := parseQuery(buf[:n]); ok {
			q.note(querierKey{ifname, addr, mac}, time.Now())
		}
	}
}

// note remembers who asked.
func (q *queriers) note(k querierKey, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for old, when := range q.heard {
		if now.Sub(when) > querierGone {
			delete(q.heard, old)
		}
	}
	if _, known := q.heard[k]; known || len(q.heard) < mostQueriers {
		q.heard[k] = now
	}
}

// of lists an interface's queriers, the latest first, and how long they have
// been listened for.
func (q *queriers) of(ifname string, v6 bool) (found []Querier, listening time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for k, when := range q.heard {
		if ago := time.Since(when); k.ifname == ifname && k.addr.Is6() == v6 && ago <= querierGone {
			found = append(found, Querier{Address: k.addr, MAC: k.mac, Ago: ago})
		}
	}
	slices.SortFunc(found, func(a, b Querier) int { return int(a.Ago - b.Ago) })
	if since, ok := q.since[ifname]; ok {
		listening = time.Since(since)
	}
	return found, listening
}

// queryFilter passes IGMP, and IPv6 with ICMPv6 behind a header of hop-by-hop
// options, which MLD has.
func queryFilter() []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_IPV6, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: 7},
		bpf.LoadAbsolute{Off: 14 + 9, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_IGMP, SkipTrue: 4, SkipFalse: 5},
		bpf.LoadAbsolute{Off: 14 + 6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_HOPOPTS, SkipTrue: 3},
		bpf.LoadAbsolute{Off: 14 + 40, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: 1},
		bpf.RetConstant{Val: 0xffff},
		bpf.RetConstant{Val: 0},
	}
}

// parseQuery reads who sent a query for group members, if the frame is one.
func parseQuery(frame []byte) (from netip.Addr, mac string, ok bool) {
	if len(frame) < 14+20 {
		return from, "", false
	}
	mac = net.HardwareAddr(frame[6:12]).String()
	ip := frame[14:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP:
		header := int(ip[0]&0xf) * 4
		if ip[9] != unix.IPPROTO_IGMP || header < 20 || len(ip) < header+8 || ip[header] != igmpQuery {
			return from, "", false
		}
		return netip.AddrFrom4([4]byte(ip[12:16])), mac, true
	case unix.ETH_P_IPV6:
		if len(ip) < 40+8 || ip[6] != unix.IPPROTO_HOPOPTS || ip[40] != unix.IPPROTO_ICMPV6 {
			return from, "", false
		}
		message := 40 + 8 + int(ip[41])*8
		if len(ip) < message+24 || ip[message] != mldQuery {
			return from, "", false
		}
		return netip.AddrFrom16([16]byte(ip[8:24])), mac, true
	}
	return from, "", false
}
