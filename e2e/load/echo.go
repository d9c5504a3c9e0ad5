package load

import (
	"encoding/binary"
	"errors"
	"net"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// A datagram is the magic, a number that no other has, and in an answer the
// node's name.
const (
	echoMagic = "earshot?"
	echoHead  = len(echoMagic) + 8
)

// question writes a datagram with the given number.
func question(id uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(echoMagic), id)
}

// parseEcho returns the number in a datagram, and the name in an answer.
func parseEcho(b []byte) (id uint64, node string, ok bool) {
	if len(b) < echoHead || string(b[:len(echoMagic)]) != echoMagic {
		return 0, "", false
	}
	return binary.BigEndian.Uint64(b[len(echoMagic):]), string(b[echoHead:]), true
}

// padded makes a question longer.
func padded(b []byte, size int) []byte {
	return append(b, make([]byte, max(size-len(b), 0))...)
}

// An echoer is a socket that knows which address each datagram came to.
// Without that, an answer to the shared address would leave from the node's.
type echoer interface {
	read(b []byte) (n int, at net.IP, from net.Addr, err error)
	write(b []byte, at net.IP, to net.Addr) error
	Close() error
}

type echoer4 struct{ *ipv4.PacketConn }

func (e echoer4) read(b []byte) (int, net.IP, net.Addr, error) {
	n, control, from, err := e.ReadFrom(b)
	if err != nil {
		return 0, nil, nil, err
	}
	return n, control.Dst, from, nil
}

func (e echoer4) write(b []byte, at net.IP, to net.Addr) error {
	_, err := e.WriteTo(b, &ipv4.ControlMessage{Src: at}, to)
	return err
}

type echoer6 struct{ *ipv6.PacketConn }

func (e echoer6) read(b []byte) (int, net.IP, net.Addr, error) {
	n, control, from, err := e.ReadFrom(b)
	if err != nil {
		return 0, nil, nil, err
	}
	return n, control.Dst, from, nil
}

func (e echoer6) write(b []byte, at net.IP, to net.Addr) error {
	_, err := e.WriteTo(b, &ipv6.ControlMessage{Src: at}, to)
	return err
}

// listenEcho opens a socket of each family.
func listenEcho(address string) ([]echoer, error) {
	conn, err := net.ListenPacket("udp4", address)
	if err != nil {
		return nil, err
	}
	conn6, err := net.ListenPacket("udp6", address)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	four, six := ipv4.NewPacketConn(conn), ipv6.NewPacketConn(conn6)
	err = errors.Join(four.SetControlMessage(ipv4.FlagDst, true), six.SetControlMessage(ipv6.FlagDst, true),
		enlarge(conn.(*net.UDPConn)), enlarge(conn6.(*net.UDPConn)))
	if err != nil {
		return nil, errors.Join(err, conn.Close(), conn6.Close())
	}
	return []echoer{echoer4{four}, echoer6{six}}, nil
}

// echo answers questions until the socket is closed.
func echo(conn echoer, name string) error {
	buf := make([]byte, 1<<16)
	for {
		n, at, from, err := conn.read(buf)
		if err != nil {
			return err
		}
		if _, _, ok := parseEcho(buf[:n]); !ok {
			continue
		}
		answer := append(buf[:echoHead:echoHead], name...)
		if err := conn.write(answer, at, from); errors.Is(err, net.ErrClosed) {
			return err
		} // a lost answer is the client's to notice
	}
}
