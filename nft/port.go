package nft

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Port is a port of a transport protocol.
type Port struct {
	Protocol Protocol
	Number   uint16
}

// String is the port as in the config's tcp/80.
func (p Port) String() string { return fmt.Sprintf("%s/%d", p.Protocol, p.Number) }

// ParsePort reads what String writes.
func ParsePort(text string) (Port, error) {
	name, number, _ := strings.Cut(text, "/")
	i := slices.IndexFunc(Protocols(), func(p Protocol) bool { return p.String() == name })
	n, err := strconv.ParseUint(number, 10, 16)
	if i < 0 || err != nil || n == 0 {
		return Port{}, fmt.Errorf("%w: port %q (write it as in tcp/80)", ErrInvalid, text)
	}
	return Port{Protocols()[i], uint16(n)}, nil
}

// Protocol is an IP protocol that has ports: all of them have the client's
// and the service's in the first four bytes of their header.
type Protocol uint8

// The protocols that a service can name ports of.
const (
	TCP     Protocol = 6
	UDP     Protocol = 17
	DCCP    Protocol = 33
	SCTP    Protocol = 132
	UDPLite Protocol = 136
)

// Protocols lists them all.
func Protocols() []Protocol { return []Protocol{TCP, UDP, DCCP, SCTP, UDPLite} }

func (p Protocol) hasPorts() bool { return slices.Contains(Protocols(), p) }

// String is the protocol's name as in the config's tcp/80.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case DCCP:
		return "dccp"
	case SCTP:
		return "sctp"
	case UDPLite:
		return "udplite"
	}
	return "unknown"
}
