package nft

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"

	"github.com/google/nftables"
)

// Flush removes every trace of Earshot from the current network namespace and
// says in words what it removed. It needs no config: what there is, our
// tables and the labels of addresses tell. Addresses go first and rules last,
// so that at no time the address answers without rules. The setting
// arp_announce, which Apply raised, gets its former value again.
func Flush(log *slog.Logger) ([]string, error) {
	p, err := Open(log)
	if err != nil {
		return nil, err
	}
	removed, err := p.flush()
	return removed, errors.Join(err, p.Close())
}

func (p *Plane) flush() ([]string, error) {
	var k kernel
	var present []nftables.TableFamily
	err := p.wire.read(func(c *nftables.Conn) error {
		var err error
		if k, err = readKernel(c); err != nil {
			return err
		}
		present, err = ourTables(c)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read kernel: %w", err)
	}
	removed, err := p.flushAddresses(k)
	if err != nil || len(present) == 0 {
		return removed, err
	}
	for _, ifname := range slices.Sorted(maps.Keys(k.former)) {
		was, err := p.restore(ifname, k.former[ifname])
		if err != nil {
			return removed, err
		}
		if was {
			removed = append(removed, fmt.Sprintf("arp_announce 2 of %s, which is %d again", ifname, k.former[ifname]))
		}
	}
	err = p.wire.transact(func(c *nftables.Conn) error {
		for _, f := range present {
			c.DelTable(tableOf(f))
		}
		return nil
	})
	if err != nil {
		return removed, fmt.Errorf("remove tables: %w", err)
	}
	for _, f := range present {
		removed = append(removed, fmt.Sprintf("table %s %s", familyName(f), TableName))
	}
	return removed, nil
}

func (p *Plane) flushAddresses(k kernel) ([]string, error) {
	addrs, names, err := p.listAddresses()
	if err != nil {
		return nil, err
	}
	places := map[string]place{}
	for _, where := range k.contents.shared {
		places[where.String()] = where
	}
	var removed []string
	for _, a := range addrs {
		if !ours(a) {
			continue
		}
		ifname := names[a.LinkIndex]
		if err := p.delAddr(a, ifname); err != nil {
			return removed, err
		}
		removed = append(removed, fmt.Sprintf("address %s on %s", addrOf(a), ifname))
		if _, known := k.contents.shared[addrOf(a)]; !known {
			for _, mac := range []net.HardwareAddr{DefaultMAC(addrOf(a)), StealthMAC(addrOf(a))} {
				where := place{ifname, mac}
				places[where.String()] = where
			}
		}
	}
	for _, where := range places {
		was, err := p.removeMAC(where)
		if err != nil {
			return removed, err
		}
		if was {
			removed = append(removed, fmt.Sprintf("MAC %s on %s", where.MAC, where.Interface))
		}
	}
	return removed, nil
}

func familyName(f nftables.TableFamily) string {
	switch f {
	case netdev:
		return "netdev"
	case inet:
		return "inet"
	case arpFamily:
		return "arp"
	}
	return fmt.Sprintf("family %d", f)
}
