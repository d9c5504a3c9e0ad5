package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"earshot/e2e/lab"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	allProtocols = unix.ETH_P_ALL
	etherMark    = 0x88b5     // for local experiments: the witness's own marks
	snapLength   = 160        // of a frame: every header and the head of the payload
	socketBuffer = 64 << 20   // bytes that wait to be read
	readSize     = snapLength // of one frame
)

// Witness reads every frame on a client's wire and judges who answered what.
type Witness struct {
	client *lab.Client
	conn   *packet.Conn
	marker *packet.Conn // another socket: a socket does not see its own frames
	done   chan struct{}

	mu     sync.Mutex
	ledger *ledger
	arps   []ARP
	mark   uint64 // the newest mark seen
	sent   uint64 // the newest mark sent
	err    error
}

// Watch puts a witness on a client's wire.
func Watch(l *lab.Lab, c *lab.Client) (*Witness, error) {
	names := map[[6]byte]string{}
	for _, n := range l.Nodes {
		names[[6]byte(n.Port.MAC)] = n.Name
	}
	w := &Witness{client: c, ledger: newLedger([6]byte(c.Port.MAC), names), done: make(chan struct{})}
	if err := c.Do(w.open); err != nil {
		return nil, fmt.Errorf("watch %s: %w", c.Name, err)
	}
	go w.read()
	return w, nil
}

// open opens the sockets; it runs in the client's namespace.
func (w *Witness) open() error {
	ifi, err := net.InterfaceByName(w.client.Port.Device)
	if err != nil {
		return err
	}
	filter, err := bpf.Assemble(readable())
	if err != nil {
		return err
	}
	if w.conn, err = packet.Listen(ifi, packet.Raw, allProtocols, &packet.Config{Filter: filter}); err != nil {
		return err
	}
	if err := errors.Join(enlarge(w.conn), stamped(w.conn)); err != nil {
		return errors.Join(err, w.conn.Close())
	}
	if w.marker, err = packet.Listen(ifi, packet.Raw, etherMark, nil); err != nil {
		return errors.Join(err, w.conn.Close())
	}
	return nil
}

// readable is the filter of what the witness reads: all but the client's own
// TCP segments that are no SYN. They are half of a busy wire, and say nothing
// about who answers.
func readable() []bpf.Instruction {
	const ip4Protocol, ip4Header, tcpFlags = 23, etherLen, 13
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.PACKET_OUTGOING, SkipTrue: 7},
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherIP4, SkipTrue: 5},
		bpf.LoadAbsolute{Off: ip4Protocol, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_TCP, SkipTrue: 3},
		bpf.LoadMemShift{Off: ip4Header},
		bpf.LoadIndirect{Off: ip4Header + tcpFlags, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: flagSYN, SkipTrue: 1},
		bpf.RetConstant{Val: snapLength},
		bpf.RetConstant{Val: 0},
	}
}

// enlarge gives a socket room for bursts.
func enlarge(conn syscall.Conn) error {
	return onSocket(conn, func(fd int) error {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer) == nil {
			return nil
		}
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer)
	})
}

// stamped has the kernel say when each frame came.
func stamped(conn syscall.Conn) error {
	return onSocket(conn, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) })
}

func onSocket(conn syscall.Conn, do func(fd int) error) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = do(int(fd)) })
	return errors.Join(err, inner)
}

// read takes frames until the witness is closed.
func (w *Witness) read() {
	defer close(w.done)
	raw, err := w.conn.SyscallConn()
	frame, control := make([]byte, readSize), make([]byte, 64)
	for err == nil {
		var n, length int
		var failed error
		err = raw.Read(func(fd uintptr) bool {
			n, length, _, _, failed = unix.Recvmsg(int(fd), frame, control, unix.MSG_DONTWAIT)
			return !errors.Is(failed, unix.EAGAIN) && !errors.Is(failed, unix.EINTR)
		})
		err = errors.Join(err, failed)
		if err == nil {
			w.mu.Lock()
			w.take(frame[:n], stamp(control[:length]))
			w.mu.Unlock()
		}
	}
	if !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrClosed) {
		w.mu.Lock()
		w.err = err
		w.mu.Unlock()
	}
}

// stamp is when the kernel had a frame: its reader may have had no processor for
// a while. Without a word of the kernel's it is now.
func stamp(control []byte) time.Time {
	messages, _ := unix.ParseSocketControlMessage(control)
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			n := binary.NativeEndian
			return time.Unix(int64(n.Uint64(m.Data)), int64(n.Uint64(m.Data[8:])))
		}
	}
	return time.Now()
}

// take enters one frame into the books.
func (w *Witness) take(b []byte, at time.Time) {
	if f, ok := parseFrame(b); ok {
		f.at = at
		w.ledger.enter(f)
	} else if a, ok := parseARP(b); ok {
		w.arps = append(w.arps, a)
	} else if len(b) >= etherLen+8 && binary.BigEndian.Uint16(b[12:]) == etherMark {
		w.mark = binary.BigEndian.Uint64(b[etherLen:])
	}
}

// settle waits until every frame up to now is in the books: it puts a mark on
// the wire and waits for it. Frames that found no room are an error.
func (w *Witness) settle() error {
	w.mu.Lock()
	w.sent++
	mark := w.sent
	w.mu.Unlock()
	own := w.client.Port.MAC
	frame := append(append(append([]byte{}, own...), own...), etherMark>>8, etherMark&0xff)
	frame = binary.BigEndian.AppendUint64(frame, mark)
	if _, err := w.marker.WriteTo(frame, &packet.Addr{HardwareAddr: own}); err != nil {
		return fmt.Errorf("mark the wire: %w", err)
	}
	err := lab.Poll(context.Background(), 10*time.Second, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.err == nil && w.mark < mark {
			return errors.New("mark not seen")
		}
		return nil
	})
	if err != nil {
		return err
	}
	stats, err := w.conn.Stats()
	if err == nil && stats.Drops > 0 {
		err = fmt.Errorf("%d frames missed", stats.Drops)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.err, err)
}

// Verdict says what became of all questions of a kind so far. A witness that
// has missed frames gives none.
func (w *Witness) Verdict(proto Proto) (Verdict, error) {
	if err := w.settle(); err != nil {
		return Verdict{}, fmt.Errorf("witness of %s: %w", w.client.Name, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ledger.verdict(proto), nil
}

// Answerer is the node that answered a client's question, by its MAC. ICMP
// has ports of zero.
func (w *Witness) Answerer(proto Proto, client, server netip.AddrPort) (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ledger.answerer(proto, client, server)
}

// ARPs are the ARP frames so far.
func (w *Witness) ARPs() ([]ARP, error) {
	if err := w.settle(); err != nil {
		return nil, fmt.Errorf("witness of %s: %w", w.client.Name, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]ARP(nil), w.arps...), nil
}

// Close ends the witness.
func (w *Witness) Close() error {
	err := errors.Join(w.conn.Close(), w.marker.Close())
	<-w.done
	return err
}
