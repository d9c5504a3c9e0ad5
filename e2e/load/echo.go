package load

import (
	"encoding/binary"
	"errors"
	"net"

	"golang.org/x/net/ipv4"
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

// listenEcho opens a socket that knows which address each datagram came to.
// Without that, an answer to the shared address would leave from the node's.
func listenEcho(address string) (*ipv4.PacketConn, error) {
	conn, err := net.ListenPacket("udp4", address)
	if err != nil {
		return nil, err
	}
	p := ipv4.NewPacketConn(conn)
	if err := p.SetControlMessage(ipv4.FlagDst, true); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return p, nil
}

// echo answers questions until the socket is closed.
func echo(conn *ipv4.PacketConn, name string) error {
	buf := make([]byte, 2048)
	for {
		n, to, from, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		if _, _, ok := parseEcho(buf[:n]); !ok {
			continue
		}
		answer := append(buf[:echoHead:echoHead], name...)
		_, err = conn.WriteTo(answer, &ipv4.ControlMessage{Src: to.Dst}, from)
		if errors.Is(err, net.ErrClosed) {
			return err
		} // a lost answer is the client's to notice
	}
}
