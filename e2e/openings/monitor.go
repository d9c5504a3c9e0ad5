package openings

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"earshot/e2e/lab"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// lookEvery is how long the monitor waits for a notification before it notes
	// that there was none: the width of a bracket on an idle machine.
	lookEvery = time.Millisecond
	// roomFor holds what is told while this process does not run.
	roomFor = 32 << 20
	// bufferSize holds one datagram of notifications.
	bufferSize = 1 << 20
	// spareProcs are so many that the monitor's thread never waits for another
	// goroutine of this program.
	spareProcs = 8
)

// Monitor keeps the record of all nodes' kernels from their notifications.
type Monitor struct {
	began time.Time
	quit  chan struct{}
	done  chan struct{}

	mu      sync.Mutex
	ears    []*ear
	err     error
	known   Moment // everything before it is in the record
	widest  time.Duration
	total   time.Duration
	counted int
}

// ear listens to one node's kernel.
type ear struct {
	name    string
	fd      int
	shadow  *shadow
	empty   Moment // the socket was empty at or after it
	began   Moment // the lower end of the transaction that is being told
	pending []change
}

// Listen opens a monitor before the agents run: their tables must not exist.
func Listen(nodes []*lab.Node, jiffy time.Duration) (*Monitor, error) {
	m := &Monitor{began: time.Now(), quit: make(chan struct{}), done: make(chan struct{})}
	for _, n := range nodes {
		e := &ear{name: n.Name, fd: -1, shadow: newShadow(jiffy)}
		if err := n.Do(e.open); err != nil {
			m.closeEars()
			return nil, fmt.Errorf("listen to the kernel of %s: %w", n.Name, err)
		}
		m.ears = append(m.ears, e)
	}
	go m.run()
	return m, nil
}

// open joins the notifications of nf_tables; it runs in the node's namespace.
func (e *ear) open() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	e.fd = fd
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, roomFor) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, roomFor) // a lack of room is told: ENOBUFS
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	return unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, unix.NFNLGRP_NFTABLES)
}

// Now is the moment.
func (m *Monitor) Now() Moment { return time.Since(m.began) }

// run reads until the monitor is closed, on a thread of its own.
func (m *Monitor) run() {
	defer close(m.done)
	runtime.LockOSThread() // not unlocked: the thread ends with its priority
	runtime.GOMAXPROCS(max(spareProcs, runtime.GOMAXPROCS(0)))
	// Before all others when the machine is busy. Where that is not allowed,
	// brackets are wider.
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
	polled := make([]unix.PollFd, len(m.ears))
	buf := make([]byte, bufferSize)
	for {
		select {
		case <-m.quit:
			return
		default:
		}
		for i, e := range m.ears {
			polled[i] = unix.PollFd{Fd: int32(e.fd), Events: unix.POLLIN}
		}
		timeout := unix.NsecToTimespec(lookEvery.Nanoseconds()) // the kernel leaves in it what was left
		before := m.Now()
		if _, err := unix.Ppoll(polled, &timeout, nil); err != nil && !errors.Is(err, unix.EINTR) {
			m.fail(err)
			return
		}
		for i, e := range m.ears {
			if polled[i].Revents == 0 {
				e.empty = before
			} else if err := m.drain(e, buf); err != nil {
				m.fail(fmt.Errorf("listen to the kernel of %s: %w", e.name, err))
				return
			}
		}
		m.advance(before)
	}
}

// Began is when the record begins.
func (m *Monitor) Began() time.Time { return m.began }

// Known is the moment before which everything is in the record.
func (m *Monitor) Known() Moment {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known
}

// advance notes that everything before a moment is known.
func (m *Monitor) advance(to Moment) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known = to
}

func (m *Monitor) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// drain reads what a socket has. Notifications that found no room (ENOBUFS)
// are an error: the record would have a hole.
func (m *Monitor) drain(e *ear, buf []byte) error {
	for {
		before := m.Now()
		n, _, err := unix.Recvfrom(e.fd, buf, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			e.empty = before
			return nil
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if err := m.enter(e, buf[:n], m.Now()); err != nil {
			return err
		}
	}
}

// enter takes a datagram of notifications, read at a moment.
func (m *Monitor) enter(e *ear, datagram []byte, at Moment) error {
	messages, err := syscall.ParseNetlinkMessage(datagram)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, msg := range messages {
		changes, end, err := parse(netlink.HeaderType(msg.Header.Type), msg.Data)
		if err != nil {
			return err
		}
		if len(e.pending) == 0 {
			e.began = e.empty
		}
		e.pending = append(e.pending, changes...)
		if end && len(e.pending) > 0 {
			s := stamp{e.began, at}
			e.shadow.apply(e.pending, s)
			e.pending = e.pending[:0]
			m.widest, m.total, m.counted = max(m.widest, s.hi-s.lo), m.total+s.hi-s.lo, m.counted+1
		}
	}
	return nil
}

// CatchUp waits until everything up to now is in the record, and returns now.
func (m *Monitor) CatchUp(ctx context.Context) (Moment, error) {
	now := m.Now()
	err := lab.Poll(ctx, 10*time.Second, func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.err == nil && m.known <= now {
			return errors.New("the record is behind")
		}
		return nil
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	return now, errors.Join(m.err, err)
}

// Copy returns the record, and every bucket that was ever open in it.
func (m *Monitor) Copy() (Record, []Place) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, seen := Record{}, map[Place]bool{}
	for _, e := range m.ears {
		r[e.name] = e.shadow.timeline.clone()
		for p := range e.shadow.holds {
			seen[p] = true
		}
	}
	return r, slices.Collect(maps.Keys(seen))
}

// Forget drops what ended before a moment.
func (m *Monitor) Forget(before Moment) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.ears {
		e.shadow.forget(before)
	}
}

// Precision says how well the moments are known.
func (m *Monitor) Precision() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.counted == 0 {
		return "no transaction was seen"
	}
	return fmt.Sprintf("%d transactions of the nodes' kernels, each known to within %v on average, %v at worst",
		m.counted, (m.total / time.Duration(m.counted)).Round(10*time.Microsecond), m.widest.Round(10*time.Microsecond))
}

// Close ends the monitor.
func (m *Monitor) Close() {
	close(m.quit)
	<-m.done
	m.closeEars()
}

func (m *Monitor) closeEars() {
	for _, e := range m.ears {
		_ = unix.Close(e.fd)
	}
}
