package nft

import (
	"fmt"
	"runtime"
	"sync"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespace is the network namespace that a Plane was opened in.
type namespace struct{ handle netns.NsHandle }

// do runs f in the namespace, on a thread of its own for the time being. In
// a process that has one namespace it changes none, and so needs no
// CAP_SYS_ADMIN.
func (n namespace) do(f func() error) error {
	runtime.LockOSThread()
	current, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("read network namespace: %w", err)
	}
	defer current.Close()
	if current.Equal(n.handle) {
		defer runtime.UnlockOSThread()
		return f()
	}
	if err := netns.Set(n.handle); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace: %w", err)
	}
	result := f()
	if err := netns.Set(current); err != nil {
		// The thread stays locked, so that it ends with its goroutine.
		return fmt.Errorf("leave network namespace: %w", err)
	}
	runtime.UnlockOSThread()
	return result
}

// withSocket runs f in the namespace with a socket for ioctls on interfaces.
func (n namespace) withSocket(f func(fd int) error) error {
	return n.do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return f(fd)
	})
}

// portIDs are the netlink addresses of our own connections, by which Watch
// knows our own transactions.
type portIDs struct {
	mu  sync.Mutex
	ids map[uint32]bool
}

func (p *portIDs) add(id uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ids[id] = true
}

func (p *portIDs) has(id uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ids[id]
}

// Socket buffers, in bytes. A transaction is one message to the kernel, and
// 65,536 buckets in four sets are some 4 MiB; the kernel acknowledges each
// message of it. Without CAP_NET_ADMIN in the initial user namespace the
// system's limits stand (net.core.wmem_max).
const (
	sendBuffer    = 16 << 20
	receiveBuffer = 8 << 20
)

// A wire is a lasting nf_tables connection. It is dialled anew after an
// error, since answers of the failed transaction may still be queued.
type wire struct {
	ns    namespace
	ports *portIDs
	conn  *nftables.Conn
}

func (w *wire) get() (*nftables.Conn, error) {
	if w.conn != nil {
		return w.conn, nil
	}
	err := w.ns.do(func() error {
		var err error
		w.conn, err = nftables.New(nftables.AsLasting(), nftables.WithSockOptions(w.setUp))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open nf_tables connection: %w", err)
	}
	return w.conn, nil
}

func (w *wire) setUp(c *netlink.Conn) error {
	// What the buffers cannot hold fails later and says so.
	_ = c.SetWriteBuffer(sendBuffer)
	_ = c.SetReadBuffer(receiveBuffer)
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var nameErr error
	if err := raw.Control(func(fd uintptr) {
		var sa unix.Sockaddr
		if sa, nameErr = unix.Getsockname(int(fd)); nameErr == nil {
			w.ports.add(sa.(*unix.SockaddrNetlink).Pid)
		}
	}); err != nil {
		return err
	}
	return nameErr
}

// transact sends what fill writes as one transaction: all of it holds, or
// nothing.
func (w *wire) transact(fill func(c *nftables.Conn) error) error {
	c, err := w.get()
	if err != nil {
		return err
	}
	if err = fill(c); err == nil {
		err = c.Flush()
	}
	if err != nil {
		w.close()
	}
	return err
}

// read runs queries.
func (w *wire) read(query func(c *nftables.Conn) error) error {
	c, err := w.get()
	if err != nil {
		return err
	}
	if err = query(c); err != nil {
		w.close()
	}
	return err
}

func (w *wire) close() {
	if w.conn != nil {
		_ = w.conn.CloseLasting() // nothing is lost with it
		w.conn = nil
	}
}
