package nft

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// QueueNumber is the number of the queue that held packets wait in. One
// program can bind it in a network namespace.
const QueueNumber = 7440

const (
	// queueLength is how many packets the kernel keeps for us at most.
	queueLength = 60_000
	// queueBuffer is the size of the buffer, in bytes, in which it tells of
	// them, some 1 KiB each.
	queueBuffer = 32 << 20
	// queueCopy is how much of each packet we see, in bytes: the headers, be
	// there many. A verdict leaves the rest as it is.
	queueCopy = 512
	// batchSize bounds what is given to the judge, or told the kernel, at once.
	batchSize = 1024
)

// Messages and attributes of linux/netfilter/nfnetlink_queue.h.
const (
	queueSubsystem     = 3 << 8 // NFNL_SUBSYS_QUEUE
	messagePacket      = queueSubsystem
	messageVerdict     = queueSubsystem | 1
	messageQueueConfig = queueSubsystem | 2

	attrPacketHeader = 1
	attrVerdict      = 2
	attrPayload      = 10

	attrCommand     = 1
	attrCopy        = 2
	attrQueueLength = 3
	attrFlagMask    = 4
	attrFlags       = 5

	commandBind = 1
	copyPacket  = 2
	// flagWhole hands over what the network card or the kernel has joined (GSO)
	// as one packet. Else each segment comes alone, and those of a flow that
	// is not known yet but the first would be lost.
	flagWhole = 1 << 2

	verdictDrop   = 0 // NF_DROP
	verdictAccept = 1 // NF_ACCEPT
)

// queue is the connection that has bound the queue, or is about to. Neither
// its rules nor its flags have it bypassed: without a program, or with one that
// is too slow, packets are dropped.
type queue struct {
	*netfilter
	ns    namespace
	bound bool
}

// openQueue asks for the queue. All that there is to say goes in one message,
// since packets may come as soon as the queue is bound. The answer, a refusal
// perhaps, comes by packets.
func (p *Plane) openQueue() (*queue, error) {
	c, err := p.ns.dialNetfilter(p.holds.buffer)
	if err != nil {
		return nil, err
	}
	q := &queue{netfilter: c, ns: p.ns}
	// Else the kernel drops, after a loss, until all of the buffer is read.
	_ = c.raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_NETLINK, unix.NETLINK_NO_ENOBUFS, 1) })
	big := binary.BigEndian
	m := startMessage(nil, messageQueueConfig, unix.NLM_F_ACK, 1, unix.AF_UNSPEC, QueueNumber)
	m = appendAttribute(m, attrCommand, commandBind, 0, 0, 0)
	m = appendAttribute(m, attrCopy, append(big.AppendUint32(nil, queueCopy), copyPacket)...)
	m = appendAttribute(m, attrQueueLength, big.AppendUint32(nil, p.holds.length)...)
	m = appendAttribute(m, attrFlagMask, big.AppendUint32(nil, flagWhole)...)
	m = appendAttribute(m, attrFlags, big.AppendUint32(nil, flagWhole)...)
	endMessage(m, 0)
	if err := q.send(m); err != nil {
		return nil, errors.Join(fmt.Errorf("bind queue %d: %w", QueueNumber, err), q.close())
	}
	return q, nil
}

// packets waits for packets and gives take each that is there, batchSize at
// most. The payload is take's to read, not to keep. It returns
// os.ErrDeadlineExceeded when it was interrupted.
func (q *queue) packets(take func(id uint32, payload []byte)) error {
	var refused error
	count := 0
	err := q.receive(func(h unix.NlMsghdr, body []byte) bool {
		switch {
		case h.Type == unix.NLMSG_ERROR && !q.bound:
			refused = errorOf(body)
			q.bound = refused == nil
		case h.Type == messagePacket && len(body) >= netfilterHeader:
			if id, payload, ok := readQueued(body[netfilterHeader:]); ok {
				take(id, payload)
				count++
			}
		} // else a verdict on a packet that is gone
		return refused == nil && count < batchSize
	})
	if errors.Is(err, unix.ENOBUFS) {
		err = nil // what had no room was dropped, and counted
	}
	if refused != nil {
		return fmt.Errorf("bind queue %d: %w", QueueNumber, q.whoHas(refused))
	}
	return err
}

// readQueued reads what the kernel tells of a packet.
func readQueued(attributes []byte) (id uint32, payload []byte, ok bool) {
	eachAttribute(attributes, func(kind uint16, data []byte) {
		switch {
		case kind == attrPacketHeader && len(data) >= 4:
			id, ok = binary.BigEndian.Uint32(data), true
		case kind == attrPayload:
			payload = data
		}
	})
	return id, payload, ok
}

// A queueVerdict lets the packet go on, or drops it.
type queueVerdict struct {
	id     uint32
	accept bool
}

// verdicts tells the kernel, which has carried them out on return: what is
// accepted has gone all its way. The oldest packets come first, for the kernel
// looks for each from that end.
func (q *queue) verdicts(all []queueVerdict) error {
	slices.SortFunc(all, func(a, b queueVerdict) int { return cmp.Compare(a.id, b.id) })
	var m []byte
	for some := range slices.Chunk(all, batchSize) {
		m = m[:0]
		for _, v := range some {
			start, data := len(m), [8]byte{3: verdictDrop}
			if v.accept {
				data[3] = verdictAccept
			}
			binary.BigEndian.PutUint32(data[4:], v.id)
			m = startMessage(m, messageVerdict, 0, 0, unix.AF_UNSPEC, QueueNumber)
			m = appendAttribute(m, attrVerdict, data[:]...)
			endMessage(m, start)
		}
		if err := q.send(m); err != nil {
			return err
		}
	}
	return nil
}

// queueUse is what the kernel says of our queue.
type queueUse struct {
	holder   uint32 // netlink port of the program that has bound it
	lost     uint64
	sequence uint64 // packets that it was given, and the number of the last
}

// readQueueUse reads the line of our queue; nobody has bound it if there is
// none.
func (n namespace) readQueueUse() (use queueUse, ok bool) {
	var text []byte
	err := n.do(func() error {
		var err error
		text, err = os.ReadFile("/proc/thread-self/net/netfilter/nfnetlink_queue")
		return err
	})
	if err != nil {
		return use, false
	}
	for line := range strings.Lines(string(text)) {
		// Number, port, waiting, what is copied (2), and the two kinds of loss:
		// the queue was full, the socket was.
		var number, waiting, mode, length, full, unsent uint64
		n, _ := fmt.Sscan(line, &number, &use.holder, &waiting, &mode, &length, &full, &unsent, &use.sequence)
		if n == 8 && number == QueueNumber {
			use.lost = full + unsent
			return use, true
		}
	}
	return queueUse{}, false
}

// lost counts the packets that the kernel had to drop since the binding.
func (q *queue) lost() uint64 {
	use, _ := q.ns.readQueueUse()
	return use.lost
}

// whoHas makes the refusal to bind a queue that another program has
// ErrQueueTaken.
func (q *queue) whoHas(refusal error) error {
	if use, ok := q.ns.readQueueUse(); ok {
		return fmt.Errorf("%w by the program with netlink port %d, mostly its process id: end it, or have it use another number: %w", ErrQueueTaken, use.holder, refusal)
	}
	return refusal
}
