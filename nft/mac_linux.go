package nft

import (
	"errors"
	"fmt"
	"os"
	"strconv"
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

// addMAC has the interface take frames to the cluster MAC.
func (p *Plane) addMAC(at place) error {
	if !stealth(at.MAC) {
		if err := p.multicast(unix.SIOCADDMULTI, at); err != nil {
			return fmt.Errorf("join %s on %s: %w", at.MAC, at.Interface, err)
		}
		return nil
	}
	err := p.unicast(at, p.links.NeighAdd)
	switch {
	case errors.Is(err, unix.EEXIST):
		return nil
	case errors.Is(err, unix.EOPNOTSUPP):
		return &UnsupportedError{Feature: "a stealth MAC on " + at.Interface, Needs: "an interface that takes several MACs, or a multicast MAC", Err: err}
	case err != nil:
		return fmt.Errorf("take %s on %s: %w", at.MAC, at.Interface, err)
	}
	return nil
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
	return p.ns.do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		var r ifreq
		copy(r.name[:unix.IFNAMSIZ-1], at.Interface)
		copy(r.data[:], at.MAC)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&r))); errno != 0 {
			return errno
		}
		return nil
	})
}

// raiseARPAnnounce has ARP requests carry the node's own address: strict
// routers ignore one whose sender is the shared address. It only raises the
// setting; where /proc is read-only it warns.
func (p *Plane) raiseARPAnnounce(ifname string) {
	path := "/proc/sys/net/ipv4/conf/" + ifname + "/arp_announce"
	err := p.ns.do(func() error {
		now, err := readInt(path)
		if err != nil || now >= arpAnnounceBest {
			return err
		}
		return writeInt(path, arpAnnounceBest)
	})
	if err != nil {
		p.log.Warn("arp_announce not raised to 2", "interface", ifname, "error", err)
	}
}

// arpAnnounceBest: always use the best local address for the target.
const arpAnnounceBest = 2

func readInt(path string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

func writeInt(path string, v int) error { return os.WriteFile(path, []byte(strconv.Itoa(v)), 0) }
