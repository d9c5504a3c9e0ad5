package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// frameChunk is how many frames are timed at once, frameBatch how many go
	// with one system call.
	frameChunk = 4 * frameBatch
	frameBatch = 256
	// vnetHeader is the size of struct virtio_net_hdr.
	vnetHeader = 10
)

// frameSend is a socket that sends the same frames again and again. They go
// past the queueing discipline, over the veth and through the other end's
// receive path, all on the calling thread: the time of send is the time of that.
type frameSend struct {
	fd       int
	messages []mmsghdr
	next     int
}

// mmsghdr is the kernel's struct.
type mmsghdr struct {
	header unix.Msghdr
	sent   uint32
}

// newFrameSend opens a socket in the current namespace that sends the frames,
// a multiple of frameBatch, by the interface.
func newFrameSend(ifname string, frames [][]byte) (*frameSend, error) {
	link, err := net.InterfaceByName(ifname)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: link.Index}),
	)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set packet socket up: %w", err)
	}
	s := &frameSend{fd: fd, messages: make([]mmsghdr, len(frames))}
	for i, frame := range frames {
		whole := append(checksumDone(), frame...)
		vec := &unix.Iovec{Base: &whole[0]}
		vec.SetLen(len(whole))
		s.messages[i].header.Iov = vec
		s.messages[i].header.SetIovlen(1)
	}
	return s, nil
}

// checksumDone is a virtio_net_hdr that leaves a TCP checksum to be done, so
// that the receiver need not look at it: a network card would have.
func checksumDone() []byte {
	const needsChecksum, start, offset = 1, 14 + 20, 16
	h := make([]byte, vnetHeader)
	h[0] = needsChecksum
	binary.NativeEndian.PutUint16(h[6:], start)
	binary.NativeEndian.PutUint16(h[8:], offset)
	return h
}

// send sends the next chunks of frames.
func (s *frameSend) send(chunks int) error {
	for range chunks * frameChunk / frameBatch {
		batch := s.messages[s.next : s.next+frameBatch]
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&batch[0])), frameBatch, 0, 0, 0)
		if errno != 0 {
			return fmt.Errorf("send frames: %w", errno)
		}
		if n != frameBatch {
			return fmt.Errorf("send frames: %d of %d went", n, frameBatch)
		}
		s.next = (s.next + frameBatch) % len(s.messages)
	}
	return nil
}

func (s *frameSend) close() { unix.Close(s.fd) }

// becomeRealtime puts the calling thread before all ordinary processes, for
// bursts of some ms between which it yields.
func becomeRealtime() error {
	return unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
}

// becomeOrdinary undoes it. Where it was not allowed there is nothing to undo.
func becomeOrdinary() {
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}, 0)
}

// yield lets others of the same priority run.
func yield() { _, _, _ = unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
