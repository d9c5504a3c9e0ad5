// Package nfttest gives tests network namespaces of their own, and raw frames
// to send into them. Nothing in it needs an installed program or, where the
// kernel allows user namespaces, root.
package nfttest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// inside marks the process that Main started in a user namespace.
const inside = "NFTTEST_INSIDE"

// Main runs the tests of a package where they may make namespaces: as they
// are for root, else in a user namespace of their own. Call it from TestMain
// as os.Exit(nfttest.Main(m)).
func Main(m *testing.M) int {
	if os.Geteuid() == 0 || os.Getenv(inside) != "" {
		return m.Run()
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, "start tests in a user namespace:", err)
		return 1
	}
	return 0
}

// A Namespace is a network namespace that lives as long as the test.
type Namespace struct {
	t      testing.TB
	Handle netns.NsHandle
}

// New makes a namespace with its loopback up.
func New(t testing.TB) *Namespace {
	t.Helper()
	n := &Namespace{t: t}
	onThread(t, func() error {
		before, err := netns.Get()
		if err != nil {
			return err
		}
		defer before.Close()
		if n.Handle, err = netns.New(); err != nil {
			return err
		}
		// Link-local addresses are usable at once, too.
		err = os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0)
		return errors.Join(err, up("lo"), netns.Set(before))
	})
	t.Cleanup(func() { n.Handle.Close() })
	return n
}

func up(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// onThread runs f on a locked thread, and fails the test on an error: the
// thread is then not used again.
func onThread(t testing.TB, f func() error) {
	t.Helper()
	runtime.LockOSThread()
	if err := f(); err != nil {
		t.Fatal(err)
	}
	runtime.UnlockOSThread()
}

// Do runs f in the namespace, on one thread.
func (n *Namespace) Do(f func()) {
	n.t.Helper()
	onThread(n.t, func() error {
		before, err := netns.Get()
		if err != nil {
			return err
		}
		defer before.Close()
		if err := netns.Set(n.Handle); err != nil {
			return err
		}
		defer func() {
			if err := netns.Set(before); err != nil {
				panic(err) // the thread is in the wrong namespace
			}
		}()
		f()
		return nil
	})
}

// Veth joins two namespaces by a pair of interfaces, both up.
func Veth(a *Namespace, nameA string, b *Namespace, nameB string) {
	a.t.Helper()
	must := func(err error) {
		a.t.Helper()
		if err != nil {
			a.t.Fatal(err)
		}
	}
	a.Do(func() {
		must(netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: nameA}, PeerName: nameB, PeerNamespace: netlink.NsFd(b.Handle),
		}))
		must(up(nameA))
	})
	b.Do(func() { must(up(nameB)) })
}

// Address gives an interface an address, such as 192.168.56.11/24.
func (n *Namespace) Address(ifname, cidr string) {
	n.t.Helper()
	n.Do(func() {
		addr, err := netlink.ParseAddr(cidr)
		if err != nil {
			n.t.Fatal(err)
		}
		link, err := netlink.LinkByName(ifname)
		if err != nil {
			n.t.Fatal(err)
		}
		if addr.IP.To4() == nil {
			addr.Flags = unix.IFA_F_NODAD // usable at once
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			n.t.Fatal(err)
		}
	})
}

// Pin keeps the calling goroutine's thread on one processor, so that frames
// which it sends over a veth keep their order. It returns what undoes it.
func Pin(t testing.TB) func() {
	t.Helper()
	runtime.LockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	for cpu := range len(before) * 64 {
		if before.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.SchedSetaffinity(0, &before); err != nil {
			t.Fatal(err)
		}
		runtime.UnlockOSThread()
	}
}
