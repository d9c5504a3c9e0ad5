package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Queue is another program that reads a queue of packets (NFQUEUE), and
// accepts each, as intrusion detection does.
type Queue struct {
	conn     *netlink.Conn
	number   uint16
	accepted atomic.Int64
	ended    chan struct{}
}

// TakeQueue has another program of the host take a queue.
func (n *Namespace) TakeQueue(number uint16) (*Queue, error) {
	q := &Queue{number: number, ended: make(chan struct{})}
	err := n.Do(func() (err error) {
		q.conn, err = netlink.Dial(unix.NETLINK_NETFILTER, nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("take queue %d in %s: %w", number, n.Name, err)
	}
	if err := q.bind(); err != nil {
		return nil, errors.Join(fmt.Errorf("take queue %d in %s: %w", number, n.Name, err), q.conn.Close())
	}
	go q.accept()
	return q, nil
}

// QueueUse is what the kernel says of a queue.
type QueueUse struct {
	Waiting int // packets without a verdict
	Lost    int // dropped: the queue, or the socket of its program, was full
	Given   int // that the program was given
}

// QueueUse reads it; nothing of a queue that nobody has.
func (n *Namespace) QueueUse(number uint16) (use QueueUse, err error) {
	var text []byte
	err = n.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/netfilter/nfnetlink_queue")
		return err
	})
	for line := range strings.Lines(string(text)) {
		var queue, port, mode, length, full, unsent int
		read, _ := fmt.Sscan(line, &queue, &port, &use.Waiting, &mode, &length, &full, &unsent, &use.Given)
		if use.Lost = full + unsent; read == 8 && queue == int(number) {
			return use, err
		}
	}
	return QueueUse{}, err
}

// Messages and attributes of linux/netfilter/nfnetlink_queue.h.
const (
	queuePacket  = unix.NFNL_SUBSYS_QUEUE << 8
	queueVerdict = unix.NFNL_SUBSYS_QUEUE<<8 | 1
	queueConfig  = unix.NFNL_SUBSYS_QUEUE<<8 | 2

	// attrHeader of a packet, attrSaid of a verdict, attrCommand of a
	// configuration are all the first of their kind, or the second.
	attrHeader  = 1
	attrCommand = 1
	attrSaid    = 2
	attrCopy    = 2

	acceptPacket = 1
)

// bind asks for the queue, and for the first bytes of each packet.
func (q *Queue) bind() error {
	return q.tell(queueConfig, netlink.Request|netlink.Acknowledge, func(e *netlink.AttributeEncoder) {
		e.Bytes(attrCommand, []byte{1, 0, 0, 0})
		e.Bytes(attrCopy, []byte{0, 0, 0, 64, 2})
	})
}

// tell sends a message about the queue; one that is to be acknowledged waits
// for that.
func (q *Queue) tell(kind netlink.HeaderType, flags netlink.HeaderFlags, write func(*netlink.AttributeEncoder)) error {
	e := netlink.NewAttributeEncoder()
	e.ByteOrder = binary.BigEndian
	write(e)
	attributes, err := e.Encode()
	if err != nil {
		return err
	}
	m := netlink.Message{
		Header: netlink.Header{Type: kind, Flags: flags},
		Data:   append(binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0}, q.number), attributes...),
	}
	if flags&netlink.Acknowledge != 0 {
		_, err = q.conn.Execute(m)
		return err
	}
	_, err = q.conn.Send(m)
	return err
}

// accept lets all packets go on until the queue is let go.
func (q *Queue) accept() {
	defer close(q.ended)
	for {
		messages, err := q.conn.Receive()
		if err != nil {
			return
		}
		for _, m := range messages {
			if m.Header.Type != queuePacket || len(m.Data) < 4 {
				continue
			}
			d, err := netlink.NewAttributeDecoder(m.Data[4:])
			for err == nil && d.Next() {
				if d.Type() != attrHeader || len(d.Bytes()) < 4 {
					continue
				}
				verdict := append([]byte{0, 0, 0, acceptPacket}, d.Bytes()[:4]...)
				if q.tell(queueVerdict, netlink.Request, func(e *netlink.AttributeEncoder) { e.Bytes(attrSaid, verdict) }) == nil {
					q.accepted.Add(1)
				}
			}
		}
	}
}

// Accepted is how many packets the program has let go on.
func (q *Queue) Accepted() int { return int(q.accepted.Load()) }

// Close ends the program.
func (q *Queue) Close() error {
	err := q.conn.Close()
	<-q.ended
	return err
}
