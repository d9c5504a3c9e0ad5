package nft

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	// testEvery is the time between two test frames of a kind.
	testEvery = 100 * time.Millisecond
	// MostWindow is how long Hear listens at most.
	MostWindow = 5 * time.Second
	// mostSenders and mostNodes bound what is remembered of a segment that lies.
	mostSenders = 64
	mostNodes   = 1024
)

// Ears listen to the segments of this node's services.
type Ears struct {
	queriers queriers
}

// NewEars returns ears that hear test frames, and queriers while Run runs.
func NewEars() *Ears { return &Ears{} }

// Probe is the function of that name, beside the ears.
func (e *Ears) Probe(services []Service) []Finding { return Probe(services) }

// Hear sends test frames for each shared address and tells what came of other
// nodes meanwhile. It changes nothing. Of an address that fails it tells why.
func (e *Ears) Hear(ctx context.Context, q Question) []Heard {
	q.Window = min(q.Window, MostWindow)
	shared, err := addresses(q.Services)
	if err != nil { // the cluster lets no such services be defined
		return []Heard{{Error: err.Error()}}
	}
	all := make([]Heard, len(shared))
	var hearing sync.WaitGroup
	for i, a := range shared {
		hearing.Go(func() {
			h := newHeard(a)
			if err := h.listen(ctx, q, a); err != nil {
				h.Error = err.Error()
			}
			h.Queriers, h.Listening = e.queriers.of(a.Interface, a.Addr.Is6())
			all[i] = h
		})
	}
	hearing.Wait()
	return all
}

func newHeard(a address) Heard {
	var names []string
	for _, s := range a.Services {
		names = append(names, s.Name)
	}
	return Heard{
		Service: strings.Join(names, ", "), Interface: a.Interface, Address: a.Addr, MAC: a.MAC.String(), From: map[string]TestCounts{},
	}
}

// listen fills in what test frames and others' frames tell.
func (h *Heard) listen(ctx context.Context, q Question, a address) error {
	ifi, err := net.InterfaceByName(a.Interface)
	if err != nil {
		return noInterface(a.Interface)
	}
	tests, err := listenAll(ifi, testFilter(a.Addr.Is6()))
	if err != nil {
		return fmt.Errorf("listen on %s: %w", a.Interface, err)
	}
	defer tests.Close()
	traffic, err := listenAll(ifi, trafficFilter(a.Addr))
	if err != nil {
		return fmt.Errorf("listen on %s: %w", a.Interface, err)
	}
	defer traffic.Close()
	until := time.Now().Add(q.Window)
	if err := errors.Join(tests.SetReadDeadline(until), traffic.SetReadDeadline(until)); err != nil {
		return err
	}
	var readers sync.WaitGroup
	readers.Go(func() { h.readTests(tests, q) })
	readers.Go(func() { h.readTraffic(traffic, a.MAC) })
	sendErr := sendTests(ctx, tests, ifi, q, a, until)
	h.Gateway = findGateway(a)
	readers.Wait()
	return sendErr
}

// sendTests sends frames of each kind at intervals until the window is over.
// One that is lost on the way out is no error unless all are.
func sendTests(ctx context.Context, conn *packet.Conn, ifi *net.Interface, q Question, a address, until time.Time) error {
	from := ownSource(ifi, a)
	tick := time.NewTicker(testEvery)
	defer tick.Stop()
	var failed error
	sent := false
	for time.Now().Before(until) {
		for _, kind := range testKinds(a.MAC) {
			f := testFrame{kind: kind, nonce: q.Nonce, node: q.Node}
			if err := f.send(conn, ifi, from, a); err != nil {
				failed = fmt.Errorf("send test frame on %s: %w", a.Interface, err)
				continue
			}
			sent = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	if sent {
		return nil
	}
	return failed
}

// send sends the frame from the interface's own MAC.
func (f testFrame) send(conn *packet.Conn, ifi *net.Interface, from netip.Addr, a address) error {
	mac, to := f.to(a.Addr, a.MAC)
	kind := ethernet.EtherTypeIPv4
	if a.Addr.Is6() {
		kind = ethernet.EtherTypeIPv6
	}
	frame := ethernet.Frame{Destination: mac, Source: ifi.HardwareAddr, EtherType: kind, Payload: f.packet(from, to)}
	wire, err := frame.MarshalBinary()
	if err != nil {
		return err
	}
	_, err = conn.WriteTo(wire, &packet.Addr{HardwareAddr: mac})
	return err
}

// ownSource is an address of the node's own that test frames come from, the
// unspecified one if it has none.
func ownSource(ifi *net.Interface, a address) netip.Addr {
	source := netip.IPv4Unspecified()
	if a.Addr.Is6() {
		source = netip.IPv6Unspecified()
	}
	addrs, _ := ifi.Addrs() // without any, the unspecified one will do
	for _, have := range addrs {
		if n, ok := have.(*net.IPNet); ok {
			addr, _ := netip.AddrFromSlice(n.IP)
			if addr = addr.Unmap(); addr.Is6() == a.Addr.Is6() && addr != a.Addr {
				return addr
			}
		}
	}
	return source
}

// readTests counts other nodes' test frames until the deadline.
func (h *Heard) readTests(conn *packet.Conn, q Question) {
	offset := 14 + 20
	if h.Address.Is6() {
		offset = 14 + 40
	}
	buf := make([]byte, 2048)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		f, err := parseTestBody(buf[min(n, offset):n])
		if err != nil || f.nonce != q.Nonce || f.node == q.Node {
			continue
		}
		if _, known := h.From[f.node]; known || len(h.From) < mostNodes {
			h.From[f.node] = h.From[f.node].add(f.kind)
		}
	}
}

// readTraffic notes who sends to the shared address, and to which MAC, until
// the deadline.
func (h *Heard) readTraffic(conn *packet.Conn, cluster net.HardwareAddr) {
	senders := map[string]*Sender{}
	buf := make([]byte, 64)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			break
		}
		if n < 24 || protocolOf(buf) == testProtocol {
			continue
		}
		to, from := net.HardwareAddr(buf[:6]).String(), net.HardwareAddr(buf[6:12]).String()
		if senders[from] == nil && len(senders) < mostSenders {
			senders[from] = &Sender{MAC: from}
		}
		switch s := senders[from]; {
		case s == nil:
		case to == cluster.String():
			s.Cluster++
		default:
			s.Other++
			s.To = to
		}
	}
	for _, s := range senders {
		h.Senders = append(h.Senders, *s)
	}
}

// protocolOf a frame that passed trafficFilter.
func protocolOf(frame []byte) byte {
	if frame[12] == 0x86 {
		return frame[14+6]
	}
	return frame[14+9]
}

// findGateway asks the default gateway on the service's interface for its MAC,
// as duplicate address detection would.
func findGateway(a address) *Gateway {
	addr := defaultGateway(a.Interface, a.Addr.Is6())
	if !addr.IsValid() {
		return nil
	}
	g := &Gateway{Address: addr}
	mac, err := askStranger(address{Addr: addr, Interface: a.Interface})
	if err == nil && mac != nil {
		g.MAC = mac.String()
	}
	return g
}

// listenAll opens a socket that sees frames before our rules do, without the
// node's own.
func listenAll(ifi *net.Interface, wanted []bpf.Instruction) (*packet.Conn, error) {
	filter, err := bpf.Assemble(append([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_OUTGOING, SkipTrue: uint8(len(wanted) - 1)},
	}, wanted...))
	if err != nil {
		return nil, err
	}
	conn, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, &packet.Config{Filter: filter})
	if errors.Is(err, os.ErrPermission) {
		err = fmt.Errorf("%w (needs CAP_NET_RAW)", err)
	}
	return conn, err
}

// test is a comparison of a filter; every one must hold.
type test struct {
	offset, size uint32
	value        uint32
}

// allOf is a filter for frames that pass all tests.
func allOf(tests ...test) []bpf.Instruction {
	var filter []bpf.Instruction
	for i, t := range tests {
		left := uint8(2*(len(tests)-i-1) + 1) // instructions to the refusal
		filter = append(filter,
			bpf.LoadAbsolute{Off: t.offset, Size: int(t.size)},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: t.value, SkipTrue: left})
	}
	return append(filter, bpf.RetConstant{Val: 0xffff}, bpf.RetConstant{Val: 0})
}

// testFilter passes test frames.
func testFilter(v6 bool) []bpf.Instruction {
	if v6 {
		return allOf(test{12, 2, unix.ETH_P_IPV6}, test{20, 1, testProtocol}, test{14 + 40 + 2, 2, testPort})
	}
	return allOf(test{12, 2, unix.ETH_P_IP}, test{14, 1, 0x45}, test{23, 1, testProtocol}, test{14 + 20 + 2, 2, testPort})
}

// trafficFilter passes packets to the address.
func trafficFilter(addr netip.Addr) []bpf.Instruction {
	kind, offset := uint32(unix.ETH_P_IP), uint32(30)
	if addr.Is6() {
		kind, offset = unix.ETH_P_IPV6, 38
	}
	tests := []test{{12, 2, kind}}
	for i := uint32(0); i < uint32(len(addr.AsSlice())); i += 4 {
		tests = append(tests, test{offset + i, 4, word32(addr.AsSlice()[i:])})
	}
	return allOf(tests...)
}
