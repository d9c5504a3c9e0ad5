package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrClosed is returned by what is asked of a closed namespace.
var ErrClosed = errors.New("namespace closed")

// Namespace is one machine of the lab: a network namespace without a name,
// held open by a thread and a file descriptor of this process.
type Namespace struct {
	Name string

	netns *os.File    // the network namespace
	calls chan func() // run by the namespace's own thread, one after another
	quit  chan struct{}

	mu        sync.Mutex
	processes map[*Process]bool // that run
	closed    bool
}

// NewNamespace makes an empty namespace whose loopback is up.
func NewNamespace(name string) (*Namespace, error) {
	n := &Namespace{Name: name, calls: make(chan func()), quit: make(chan struct{}), processes: map[*Process]bool{}}
	made := make(chan error)
	go n.serve(made, make(chan struct{}))
	if err := <-made; err != nil {
		return nil, fmt.Errorf("make namespace %s: %w", name, err)
	}
	if err := n.Do(loopbackUp); err != nil {
		n.Close()
		return nil, fmt.Errorf("make namespace %s: %w", name, err)
	}
	return n, nil
}

// serve is the namespace's own thread. It is never unlocked, so it ends with
// the goroutine, and the processes that it started die with it (Pdeathsig).
// The main thread does not do: Go never ends it.
func (n *Namespace) serve(made chan<- error, locked chan<- struct{}) {
	runtime.LockOSThread()
	close(locked)
	if unix.Gettid() == unix.Getpid() {
		another := make(chan struct{})
		go n.serve(made, another)
		<-another // held until then, this thread cannot be taken again
		runtime.UnlockOSThread()
		return
	}
	if err := n.settle(); err != nil {
		made <- err
		return
	}
	made <- nil
	for {
		select {
		case call := <-n.calls:
			call()
		case <-n.quit:
			return
		}
	}
}

// settle moves the calling thread into new namespaces.
func (n *Namespace) settle() error {
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// /sys/class/net of this namespace. A container may forbid it.
	_ = unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	var err error
	n.netns, err = os.Open("/proc/thread-self/ns/net")
	return err
}

// onThread runs f on the namespace's own thread.
func (n *Namespace) onThread(f func() error) error {
	result := make(chan error, 1)
	select {
	case n.calls <- func() { result <- f() }:
		return <-result
	case <-n.quit:
		return fmt.Errorf("%s: %w", n.Name, ErrClosed)
	}
}

// Do runs f on a thread that is inside the network namespace. Several may run
// at once. Goroutines that f starts run outside; sockets that f makes stay in.
// Do not start processes here: see Start.
func (n *Namespace) Do(f func() error) error {
	select {
	case <-n.quit:
		return fmt.Errorf("%s: %w", n.Name, ErrClosed)
	default:
	}
	result := make(chan error, 1)
	go func() { result <- n.visit(f) }()
	return <-result
}

// visit moves the calling goroutine's thread into the namespace for f. Should
// the way back fail, the thread is left locked and ends with the goroutine.
func (n *Namespace) visit(f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	if err := unix.Setns(int(n.netns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter namespace %s: %w", n.Name, err)
	}
	err = f()
	if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
	return err
}

// Dial connects from inside. The address must be numeric.
func (n *Namespace) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := n.Do(func() (err error) {
		// No fallback: a second attempt would run in a goroutine of its own.
		d := net.Dialer{FallbackDelay: -1}
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens inside. The address must be numeric.
func (n *Namespace) Listen(network, address string) (net.Listener, error) {
	var ln net.Listener
	err := n.Do(func() (err error) {
		ln, err = net.Listen(network, address)
		return err
	})
	return ln, err
}

// ListenPacket opens a datagram socket inside. The address must be numeric.
func (n *Namespace) ListenPacket(network, address string) (net.PacketConn, error) {
	var conn net.PacketConn
	err := n.Do(func() (err error) {
		conn, err = net.ListenPacket(network, address)
		return err
	})
	return conn, err
}

// enlist notes a process to be killed with the namespace. It reports false
// when the namespace is closed already.
func (n *Namespace) enlist(p *Process) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed {
		n.processes[p] = true
	}
	return !n.closed
}

// dismiss forgets a process that has ended.
func (n *Namespace) dismiss(p *Process) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.processes, p)
}

// Close kills the processes of the namespace and lets go of it; with them
// gone, the kernel removes it and its links.
func (n *Namespace) Close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	n.closed = true
	for p := range n.processes {
		_ = p.cmd.Process.Kill() // fails only when it has ended
	}
	close(n.quit)
	n.netns.Close()
}

// loopbackUp sets lo of the current namespace up.
func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	return netlink.LinkSetUp(lo)
}

// Sysctl writes a kernel setting of the namespace, named by its path below
// /proc/sys, as in "net/ipv4/conf/eth1/arp_announce".
func (n *Namespace) Sysctl(path, value string) error {
	return n.Do(func() error {
		return os.WriteFile("/proc/sys/"+path, []byte(value), 0)
	})
}

// Fd is the network namespace as a file descriptor, to put links into it. It
// is valid until Close.
func (n *Namespace) Fd() int { return int(n.netns.Fd()) }
