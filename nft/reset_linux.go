package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"earshot/hashmode"
)

// Reset ends the TCP connections that this node has in the buckets of a
// service: their clients get a reset at once, also those that wait for an
// answer and send nothing, and so does the server. It returns how many there
// were. The services are all that the node has, as for Flows. A kernel that
// cannot do this (CONFIG_INET_DIAG_DESTROY) gives an UnsupportedError.
func (p *Plane) Reset(services []Service, service string, buckets hashmode.Set) (int, error) {
	all, err := addresses(services)
	if err != nil {
		return 0, err
	}
	byAddr := map[netip.Addr]address{}
	for _, a := range all {
		byAddr[a.Addr] = a
	}
	n := 0
	err = p.ns.do(func() error {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			sockets, err := netlink.SocketDiagTCP(family)
			if err != nil {
				return fmt.Errorf("list sockets: %w", err)
			}
			for _, s := range sockets {
				key := keyOfSocket(s)
				a, ours := byAddr[key.server.Addr()]
				if !ours || s.State == tcpListen || s.State == tcpTimeWait || key.client.Addr() == key.server.Addr() {
					continue
				}
				decides, spec := a.decider(unix.IPPROTO_TCP, key.server.Port())
				if decides.Name != service || !buckets.Has(spec.Bucket(key.client, key.server.Port())) {
					continue
				}
				switch err := destroy(s); {
				case errors.Is(err, unix.ENOENT): // it has ended meanwhile
				case errors.Is(err, unix.EOPNOTSUPP):
					return &UnsupportedError{Feature: "resetting connections", Needs: "Linux 4.5 with CONFIG_INET_DIAG_DESTROY", Err: err}
				case err != nil:
					return fmt.Errorf("reset the connection of %s: %w", key.client, err)
				default:
					n++
				}
			}
		}
		return nil
	})
	return n, err
}

// More states of TCP sockets (net/tcp_states.h).
const (
	tcpTimeWait = 6
	tcpListen   = 10
)

// destroy ends one socket. The cookie tells it from a later one with the same
// addresses.
func destroy(s *netlink.Socket) error {
	request := nl.NewNetlinkRequest(nl.SOCK_DESTROY, unix.NLM_F_ACK)
	request.AddRawData(diagRequest(s))
	_, err := request.Execute(unix.NETLINK_INET_DIAG, 0)
	return err
}

// diagRequest is the kernel's struct inet_diag_req_v2, 56 bytes: family,
// protocol, extensions and a pad, states, then the socket's id with ports and
// addresses in network order.
func diagRequest(s *netlink.Socket) []byte {
	b := make([]byte, 8, 56)
	b[0], b[1] = s.Family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[4:], ^uint32(0))
	b = binary.BigEndian.AppendUint16(b, s.ID.SourcePort)
	b = binary.BigEndian.AppendUint16(b, s.ID.DestinationPort)
	for _, ip := range [][]byte{s.ID.Source, s.ID.Destination} {
		addr := make([]byte, 16)
		if s.Family == unix.AF_INET && len(ip) == 16 {
			ip = ip[12:]
		}
		copy(addr, ip)
		b = append(b, addr...)
	}
	b = binary.NativeEndian.AppendUint32(b, s.ID.Interface)
	b = binary.NativeEndian.AppendUint32(b, s.ID.Cookie[0])
	return binary.NativeEndian.AppendUint32(b, s.ID.Cookie[1])
}
