package nft

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
)

// A test frame asks the network whether it brings a client's frame to every
// node: an IP packet to the shared address, from a node's own MAC, of the
// protocol that is meant for experiments (RFC 3692), which nobody answers.
// Our rules drop it at ingress, after sockets of Hear have seen it.

const (
	// testProtocol is the IP protocol of test frames.
	testProtocol = 253
	// testPort stands where ports do, to tell test frames from others'
	// experiments: agents listen on this port by default, too.
	testPort = 7440
	// testMagic opens what follows: its version is part of it.
	testMagic = "earshot1"
)

// TestKind says to which MAC a test frame went.
type TestKind uint8

// The kinds of test frames. All but the first tell why it does not arrive.
const (
	// TestCluster goes to the cluster MAC, as clients' frames do.
	TestCluster TestKind = 1 + iota
	// TestBroadcast goes to everybody.
	TestBroadcast
	// TestGroup goes to the cluster MAC, and to its multicast group instead of
	// the shared address: some switches that snoop go by the IP address.
	TestGroup
)

// testKinds are the kinds that there are for a cluster MAC.
func testKinds(mac net.HardwareAddr) []TestKind {
	if stealth(mac) || !GroupOf(mac).IsValid() {
		return []TestKind{TestCluster, TestBroadcast}
	}
	return []TestKind{TestCluster, TestBroadcast, TestGroup}
}

// testFrame is what a test frame says.
type testFrame struct {
	kind  TestKind
	nonce uint64 // of the examination
	node  string // that sent it
}

// to are the MAC and the address that the frame goes to.
func (f testFrame) to(addr netip.Addr, mac net.HardwareAddr) (net.HardwareAddr, netip.Addr) {
	switch f.kind {
	case TestBroadcast:
		return net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, addr
	case TestGroup:
		return mac, GroupOf(mac)
	}
	return mac, addr
}

// body is the IP payload: two ports, the magic, then what the frame says.
func (f testFrame) body() []byte {
	b := binary.BigEndian.AppendUint16(nil, testPort)
	b = binary.BigEndian.AppendUint16(b, testPort)
	b = append(b, testMagic...)
	b = binary.BigEndian.AppendUint64(b, f.nonce)
	b = append(b, byte(f.kind), byte(len(f.node)))
	return append(b, f.node...)
}

var errNotTest = errors.New("no test frame")

// parseTestBody reads what body writes; bytes after it are the padding of
// short frames.
func parseTestBody(b []byte) (testFrame, error) {
	const fixed = 4 + len(testMagic) + 8 + 2
	if len(b) < fixed || string(b[4:4+len(testMagic)]) != testMagic {
		return testFrame{}, errNotTest
	}
	b = b[4+len(testMagic):]
	f := testFrame{kind: TestKind(b[8]), nonce: binary.BigEndian.Uint64(b)}
	length := int(b[9])
	if len(b) < 10+length || f.kind < TestCluster || f.kind > TestGroup {
		return testFrame{}, errNotTest
	}
	f.node = string(b[10 : 10+length])
	return f, nil
}

// packet is the IP packet with the body.
func (f testFrame) packet(from, to netip.Addr) []byte {
	body := f.body()
	if to.Is6() {
		h := make([]byte, 40, 40+len(body))
		h[0], h[6], h[7] = 0x60, testProtocol, 64
		binary.BigEndian.PutUint16(h[4:], uint16(len(body)))
		copy(h[8:], from.AsSlice())
		copy(h[24:], to.AsSlice())
		return append(h, body...)
	}
	h := make([]byte, 20, 20+len(body))
	h[0], h[8], h[9] = 0x45, 64, testProtocol
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(body)))
	copy(h[12:], from.AsSlice())
	copy(h[16:], to.AsSlice())
	binary.BigEndian.PutUint16(h[10:], ipChecksum(h))
	return append(h, body...)
}

// ipChecksum is the checksum of an IPv4 header whose checksum is zero.
func ipChecksum(h []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
