package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// States of TCP sockets (net/tcp_states.h).
const (
	tcpEstablished = 1
	tcpSynSent     = 2
	tcpSynRecv     = 3
	tcpFinWait1    = 4
	tcpFinWait2    = 5
	tcpCloseWait   = 8
	tcpLastAck     = 9
	tcpClosing     = 11
)

// openStates are those of a socket with a peer. A busy server has a hundred
// times as many in TIME_WAIT.
const openStates = 1<<tcpEstablished | 1<<tcpSynSent | 1<<tcpSynRecv | 1<<tcpFinWait1 | 1<<tcpFinWait2 |
	1<<tcpCloseWait | 1<<tcpLastAck | 1<<tcpClosing

// halfOpen sockets have sent a SYN-ACK, and send it again for a minute until the
// client answers.
const halfOpen = 1 << tcpSynRecv

// A socket is a TCP socket with a peer.
type socket struct {
	family, state uint8
	ends          flowKey // of which the server's is this end
	id            [socketID]byte
}

// Lengths of linux/inet_diag.h in bytes: struct inet_diag_sockid, and what
// precedes it in struct inet_diag_msg and in struct inet_diag_req_v2.
const (
	socketID     = 48
	beforeID     = 4
	beforeWanted = 8
)

// socketsIn lists the sockets of a family that are in some states, in this
// thread's namespace. One that listens on [::] has its IPv4 connections as
// AF_INET6.
func socketsIn(states uint32, family uint8) ([]socket, error) {
	request := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
	request.AddRawData(wantedSockets(family, states, [socketID]byte{}))
	messages, err := request.Execute(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY)
	if err != nil {
		return nil, fmt.Errorf("list sockets: %w", err)
	}
	sockets := make([]socket, 0, len(messages))
	for _, m := range messages {
		if len(m) >= beforeID+socketID {
			sockets = append(sockets, readSocket(m))
		}
	}
	return sockets, nil
}

// readSocket reads a struct inet_diag_msg: family, state, two bytes, and the id:
// both ports and both addresses in network order, interface and cookie.
func readSocket(m []byte) socket {
	s := socket{family: m[0], state: m[1], id: [socketID]byte(m[beforeID:])}
	length := 4
	if s.family == unix.AF_INET6 {
		length = 16
	}
	local, _ := netip.AddrFromSlice(s.id[4 : 4+length])
	remote, _ := netip.AddrFromSlice(s.id[20 : 20+length])
	s.ends = flowKey{
		client: netip.AddrPortFrom(remote.Unmap(), binary.BigEndian.Uint16(s.id[2:])),
		server: netip.AddrPortFrom(local.Unmap(), binary.BigEndian.Uint16(s.id[0:])),
	}
	return s
}

// destroy ends the socket. The cookie in its id tells it from a later one with
// the same addresses.
func (s socket) destroy() error {
	request := nl.NewNetlinkRequest(nl.SOCK_DESTROY, unix.NLM_F_ACK)
	request.AddRawData(wantedSockets(s.family, ^uint32(0), s.id))
	_, err := request.Execute(unix.NETLINK_INET_DIAG, 0)
	return err
}

// wantedSockets is the kernel's struct inet_diag_req_v2: family, protocol,
// extensions and a pad, states, and the id.
func wantedSockets(family uint8, states uint32, id [socketID]byte) []byte {
	b := make([]byte, beforeWanted, beforeWanted+socketID)
	b[0], b[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[4:], states)
	return append(b, id[:]...)
}
