package nft

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// ARP requests are to carry the node's own address: strict routers ignore one
// whose sender is the shared address. The setting that has the kernel do so
// is raised on the services' interfaces, and what it was before stands in the
// set former, so that whoever removes the service, in whatever process, can
// set it back.

// arpAnnounceBest: always use the best local address for the target.
const arpAnnounceBest = 2

// settings is the value of arp_announce, by interface, before we raised it.
type settings map[string]int

// settingKey is an interface's name as the kernel has it.
func settingKey(ifname string) []byte {
	var key [unix.IFNAMSIZ]byte
	copy(key[:], ifname)
	return key[:]
}

// settingText is the comment of an element of the set former.
func settingText(was int) string { return fmt.Sprintf("arp_announce %d", was) }

// parseSetting reads an element of the set former.
func parseSetting(e nftables.SetElement) (ifname string, was int, ok bool) {
	value, ok := strings.CutPrefix(e.Comment, "arp_announce ")
	was, err := strconv.Atoi(value)
	ifname = strings.TrimRight(string(e.Key), "\x00")
	return ifname, was, ok && err == nil && ifname != "" && was >= 0 && was < arpAnnounceBest
}

// formerSettings is what is to be remembered when the addresses are shared:
// what the kernel or this process remembers already, else what stands now.
func (p *Plane) formerSettings(known settings, all []address) settings {
	former := settings{}
	for _, a := range all {
		if !a.Addr.Is4() {
			continue
		}
		if was, ok := known[a.Interface]; ok {
			former[a.Interface] = was
		} else if was, ok := p.former[a.Interface]; ok {
			former[a.Interface] = was // the set was lost
		} else if was, err := p.arpAnnounce(a.Interface); err == nil && was < arpAnnounceBest {
			former[a.Interface] = was
		}
	}
	return former
}

// fillFormer writes the difference between what the set former holds and what
// it is to hold.
func fillFormer(c *nftables.Conn, have, want settings) error {
	s := &nftables.Set{Table: tableOf(inet), Name: setFormer, KeyType: nftables.TypeIFName}
	var gone, added []nftables.SetElement
	for ifname, was := range have {
		if now, ok := want[ifname]; !ok || now != was {
			gone = append(gone, nftables.SetElement{Key: settingKey(ifname)})
		}
	}
	for _, ifname := range slices.Sorted(maps.Keys(want)) {
		if was, ok := have[ifname]; !ok || was != want[ifname] {
			added = append(added, nftables.SetElement{Key: settingKey(ifname), Comment: settingText(want[ifname])})
		}
	}
	if len(gone) > 0 {
		if err := c.SetDeleteElements(s, gone); err != nil {
			return err
		}
	}
	if len(added) > 0 {
		return c.SetAddElements(s, added)
	}
	return nil
}

// restore sets back what we raised, unless others have changed it since, and
// reports whether it did. An interface that is gone took its setting with it.
func (p *Plane) restore(ifname string, was int) (bool, error) {
	now, err := p.arpAnnounce(ifname)
	if errors.Is(err, os.ErrNotExist) || err == nil && now != arpAnnounceBest {
		return false, nil
	}
	if err == nil {
		err = p.ns.do(func() error { return writeInt(arpAnnouncePath(ifname), was) })
	}
	if err != nil {
		return false, fmt.Errorf("set arp_announce of %s back to %d: %w", ifname, was, err)
	}
	return true, nil
}

// restoreOthers sets back the settings of interfaces that have no shared
// address any more.
func (p *Plane) restoreOthers(have, want settings) error {
	for ifname, was := range have {
		if _, ok := want[ifname]; ok {
			continue
		}
		if _, err := p.restore(ifname, was); err != nil {
			return err
		}
	}
	return nil
}

// raiseARPAnnounce only raises the setting; where /proc is read-only it warns.
// It reports whether it changed anything.
func (p *Plane) raiseARPAnnounce(ifname string) bool {
	now, err := p.arpAnnounce(ifname)
	if err == nil && now < arpAnnounceBest {
		if err = p.ns.do(func() error { return writeInt(arpAnnouncePath(ifname), arpAnnounceBest) }); err == nil {
			return true
		}
	}
	if err != nil {
		p.log.Warn("arp_announce not raised to 2", "interface", ifname, "error", err)
	}
	return false
}

func (p *Plane) arpAnnounce(ifname string) (now int, err error) {
	err = p.ns.do(func() error {
		now, err = readInt(arpAnnouncePath(ifname))
		return err
	})
	return now, err
}

func arpAnnouncePath(ifname string) string {
	return "/proc/sys/net/ipv4/conf/" + ifname + "/arp_announce"
}

func readInt(path string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

func writeInt(path string, v int) error { return os.WriteFile(path, []byte(strconv.Itoa(v)), 0) }
