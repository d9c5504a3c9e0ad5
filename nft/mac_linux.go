package nft

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The membership in the cluster MAC is one that outlives the process: for a
// multicast MAC the kernel's "global" use of it (ip maddress add), which is
// there or not, however often it is added; for a stealth MAC an entry of the
// interface's own forwarding database (bridge fdb add … self).

// ifreq is struct ifreq with ifr_hwaddr.
type ifreq struct {
	name   [unix.IFNAMSIZ]byte
	family uint16
	data   [14]byte
	_      [8]byte
}

// addMAC has the interface take frames to the cluster MAC, and reports
// whether it did not before.
func (p *Plane) addMAC(at place) (bool, error) {
	if !stealth(at.MAC) {
		if there, err := p.multicasts(); err == nil && there[at.String()] {
			return false, nil
		}
		if err := p.multicast(unix.SIOCADDMULTI, at); err != nil {
			return false, fmt.Errorf("join %s on %s: %w", at.MAC, at.Interface, err)
		}
		return true, nil
	}
	err := p.unicast(at, p.links.NeighAdd)
	switch {
	case errors.Is(err, unix.EEXIST):
		return false, nil
	case errors.Is(err, unix.EOPNOTSUPP):
		return false, &UnsupportedError{Feature: "a stealth MAC on " + at.Interface, Needs: "an interface that takes several MACs, or a multicast MAC", Err: err}
	case err != nil:
		return false, fmt.Errorf("take %s on %s: %w", at.MAC, at.Interface, err)
	}
	return true, nil
}

// hasStealth reports whether the interface takes frames to the stealth MAC. The
// caller holds mu.
func (p *Plane) hasStealth(at place) (bool, error) {
	link, err := p.links.LinkByName(at.Interface)
	if err != nil {
		return false, fmt.Errorf("%w: %w", unix.ENODEV, err)
	}
	entries, err := p.links.NeighList(link.Attrs().Index, unix.AF_BRIDGE)
	return slices.ContainsFunc(entries, func(e netlink.Neigh) bool {
		return e.Flags&netlink.NTF_SELF != 0 && bytes.Equal(e.HardwareAddr, at.MAC)
	}), err
}

// multicasts lists the places that have their multicast MAC by the kernel's
// "global" use of it, as addMAC has it.
func (p *Plane) multicasts() (map[string]bool, error) {
	var text []byte
	err := p.ns.do(func() error {
		var err error
		text, err = os.ReadFile("/proc/thread-self/net/dev_mcast")
		return err
	})
	there := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		// index, interface, users, global users, MAC
		f := strings.Fields(line)
		if len(f) != 5 || f[3] == "0" {
			continue
		}
		if mac, err := hex.DecodeString(f[4]); err == nil {
			there[place{f[1], mac}.String()] = true
		}
	}
	return there, err
}

// removeMAC undoes addMAC and reports whether there was anything to undo.
func (p *Plane) removeMAC(at place) (bool, error) {
	var err error
	if stealth(at.MAC) {
		err = p.unicast(at, p.links.NeighDel)
	} else {
		err = p.multicast(unix.SIOCDELMULTI, at)
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("leave %s on %s: %w", at.MAC, at.Interface, err)
	}
	return true, nil
}

// unicast writes or removes an entry of an interface's forwarding database.
func (p *Plane) unicast(at place, write func(*netlink.Neigh) error) error {
	link, err := p.links.LinkByName(at.Interface)
	if err != nil {
		return fmt.Errorf("%w: %w", unix.ENODEV, err)
	}
	return write(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF,
		State: netlink.NUD_PERMANENT, HardwareAddr: at.MAC,
	})
}

func (p *Plane) multicast(request uintptr, at place) error {
	return p.ns.withSocket(func(fd int) error {
		var r ifreq
		copy(r.name[:unix.IFNAMSIZ-1], at.Interface)
		copy(r.data[:], at.MAC)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&r))); errno != 0 {
			return errno
		}
		return nil
	})
}
