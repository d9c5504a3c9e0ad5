package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A netfilter is a netlink connection for requests by the thousand: several
// messages go in one system call, and what comes is read into one buffer. The
// libraries that serve the rest take a call and several allocations for each.
type netfilter struct {
	file *os.File
	raw  syscall.RawConn
	buf  []byte
}

// dialNetfilter opens a connection with a receive buffer of so many bytes, or
// of what the system's limits allow.
func (n namespace) dialNetfilter(receive int) (*netfilter, error) {
	var fd int
	err := n.do(func() error {
		var err error
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open netfilter connection: %w", err)
	}
	file := os.NewFile(uintptr(fd), "netfilter")
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receive) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receive) // less is slower
	}
	raw, err := file.SyscallConn()
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open netfilter connection: %w", err), file.Close())
	}
	return &netfilter{file: file, raw: raw, buf: make([]byte, 1<<16)}, nil
}

// send hands messages to the kernel, which has carried them out when send
// returns. It may be called while another goroutine receives.
func (c *netfilter) send(messages []byte) error {
	var sendErr error
	err := c.raw.Write(func(fd uintptr) bool {
		sendErr = unix.Sendto(int(fd), messages, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		return sendErr != unix.EAGAIN
	})
	return errors.Join(err, sendErr)
}

// receive waits for messages and gives each of them to take, until no more
// are there or take has had enough. What take is given it must copy to keep.
// ENOBUFS says that messages were lost for want of room, and is told once.
func (c *netfilter) receive(take func(header unix.NlMsghdr, body []byte) (more bool)) error {
	var readErr error
	err := c.raw.Read(func(fd uintptr) bool {
		for got := false; ; got = true {
			n, err := unix.Read(int(fd), c.buf)
			switch {
			case err == unix.EINTR:
				continue
			case err == unix.EAGAIN:
				return got // if there was nothing, wait
			case err != nil:
				readErr = err
				return true
			case !eachMessageOf(c.buf[:n], take):
				return true
			}
		}
	})
	return errors.Join(err, readErr)
}

// answerTimeout bounds the wait for answers, which are there when the questions
// have been put, and for each part of a list.
const answerTimeout = 5 * time.Second

// converse puts n questions, whose messages are numbered from zero, and waits
// for the answers, of one message each. What answer returns ends it, with
// answers left on the connection.
func (c *netfilter) converse(questions []byte, n int, answer func(number int, kind uint16, body []byte) error) error {
	if err := errors.Join(c.interruptAt(time.Now().Add(answerTimeout)), c.send(questions)); err != nil {
		return err
	}
	var refused error
	for left := n; left > 0 && refused == nil; {
		err := c.receive(func(h unix.NlMsghdr, body []byte) bool {
			if int(h.Seq) >= n {
				refused = unix.EBADMSG
				return false
			}
			left--
			refused = answer(int(h.Seq), h.Type, body)
			return left > 0 && refused == nil
		})
		if err != nil {
			return err
		}
	}
	return refused
}

// dump puts a question that is answered by a list, and gives each entry's
// message to take.
func (c *netfilter) dump(question []byte, take func(body []byte)) error {
	if err := c.send(question); err != nil {
		return err
	}
	var refused error
	for more := true; more && refused == nil; {
		if err := c.interruptAt(time.Now().Add(answerTimeout)); err != nil {
			return err
		}
		err := c.receive(func(h unix.NlMsghdr, body []byte) bool {
			switch h.Type {
			case unix.NLMSG_DONE:
				if more = false; len(body) >= 4 {
					refused = errorOf(body) // what it broke off with
				}
			case unix.NLMSG_ERROR:
				refused = errorOf(body)
			default:
				take(body)
			}
			return more && refused == nil
		})
		if err != nil {
			return err
		}
	}
	return refused
}

// interruptAt makes receive return os.ErrDeadlineExceeded at that time.
func (c *netfilter) interruptAt(t time.Time) error { return c.file.SetReadDeadline(t) }

func (c *netfilter) close() error { return c.file.Close() }

// netlinkHeader is the length of a netlink header and of the part that all
// netfilter messages begin with.
const (
	netlinkHeader   = unix.SizeofNlMsghdr
	netfilterHeader = 4
)

// eachMessageOf splits what one read returned. It reports whether take wants
// more.
func eachMessageOf(b []byte, take func(unix.NlMsghdr, []byte) bool) bool {
	native, more := binary.NativeEndian, true
	for len(b) >= netlinkHeader {
		h := unix.NlMsghdr{Len: native.Uint32(b), Type: native.Uint16(b[4:]), Flags: native.Uint16(b[6:]), Seq: native.Uint32(b[8:]), Pid: native.Uint32(b[12:])}
		if h.Len < netlinkHeader || int(h.Len) > len(b) {
			break // cut off
		}
		more = take(h, b[netlinkHeader:h.Len]) && more
		b = b[min(align4(int(h.Len)), len(b)):]
	}
	return more
}

// eachAttribute walks the attributes of a message's body, or of another
// attribute. Their types come without flags.
func eachAttribute(b []byte, take func(kind uint16, data []byte)) {
	for len(b) >= unix.SizeofNlAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofNlAttr || length > len(b) {
			return
		}
		take(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofNlAttr:length])
		b = b[min(align4(length), len(b)):]
	}
}

// startMessage appends the headers of a netfilter message; endMessage writes
// its length, given where it started.
func startMessage(b []byte, kind, flags uint16, seq uint32, family uint8, resource uint16) []byte {
	native := binary.NativeEndian
	b = native.AppendUint32(b, 0)
	b = native.AppendUint16(b, kind)
	b = native.AppendUint16(b, flags|unix.NLM_F_REQUEST)
	b = native.AppendUint32(b, seq)
	b = native.AppendUint32(b, 0)
	b = append(b, family, unix.NFNETLINK_V0)
	return binary.BigEndian.AppendUint16(b, resource)
}

func endMessage(b []byte, start int) { binary.NativeEndian.PutUint32(b[start:], uint32(len(b)-start)) }

// appendAttribute appends an attribute with its padding.
func appendAttribute(b []byte, kind uint16, data ...byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofNlAttr+len(data)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), data...)
	return append(b, make([]byte, align4(len(data))-len(data))...)
}

// startNested appends the head of an attribute of attributes; endNested
// writes its length, given where it started.
func startNested(b []byte, kind uint16) []byte {
	return binary.NativeEndian.AppendUint16(append(b, 0, 0), kind|unix.NLA_F_NESTED)
}

func endNested(b []byte, start int) { binary.NativeEndian.PutUint16(b[start:], uint16(len(b)-start)) }

func align4(n int) int { return (n + 3) &^ 3 }

// errorOf reads an acknowledgement or error message.
func errorOf(body []byte) error {
	if len(body) < 4 {
		return unix.EBADMSG
	}
	if errno := -int32(binary.NativeEndian.Uint32(body)); errno != 0 {
		return unix.Errno(errno)
	}
	return nil
}
