package lab

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// sysctls of each interface that a snapshot shows.
var sysctls = [...]string{"arp_announce", "arp_ignore", "arp_notify", "rp_filter", "accept_local"}

// Snapshot is what the kernel holds in the namespace, as sorted lines: addresses,
// routes, multicast and bridge-table MACs, groups, settings and nf_tables with
// their sets. Two equal snapshots mean that nothing was left or lost. What
// changes by itself (counters, timeouts, use counts) is not in it.
func (n *Namespace) Snapshot() (string, error) {
	var lines []string
	err := n.Do(func() error {
		for _, part := range []func() ([]string, error){
			addressLines, routeLines, multicastLines, groupLines, fdbLines, sysctlLines, tableLines,
		} {
			more, err := part()
			if err != nil {
				return err
			}
			lines = append(lines, more...)
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("take snapshot of %s: %w", n.Name, err)
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "\n") + "\n", nil
}

// addressLines lists links with their addresses.
func addressLines() ([]string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var lines []string
	for _, link := range links {
		a := link.Attrs()
		lines = append(lines, fmt.Sprintf("link %s %s %s promisc=%d allmulti=%d",
			a.Name, link.Type(), a.HardwareAddr, a.Promisc, a.Allmulti))
		addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			return nil, fmt.Errorf("list addresses of %s: %w", a.Name, err)
		}
		for _, addr := range addrs {
			lines = append(lines, fmt.Sprintf("address %s %s flags=%#x", a.Name, addr.IPNet, addr.Flags))
		}
	}
	return lines, nil
}

// routeLines lists the routes of all tables.
func routeLines() ([]string, error) {
	var lines []string
	filter := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			lines = append(lines, fmt.Sprintf("route %s", r))
		}
	}
	return lines, nil
}

// multicastLines lists the MACs that each interface receives.
func multicastLines() ([]string, error) {
	text, err := os.ReadFile("/proc/thread-self/net/dev_mcast")
	if err != nil {
		return nil, err
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		// index device users global MAC; the use counts change by themselves
		if f := strings.Fields(line); len(f) == 5 {
			lines = append(lines, fmt.Sprintf("mac %s %s", f[1], f[4]))
		}
	}
	return lines, nil
}

// groupLines lists the IGMP and MLD memberships.
func groupLines() ([]string, error) {
	igmp, err := os.ReadFile("/proc/thread-self/net/igmp")
	if err != nil {
		return nil, err
	}
	var lines []string
	device := ""
	for line := range strings.Lines(string(igmp)) {
		f := strings.Fields(line)
		switch {
		case len(f) > 1 && line[0] != '\t':
			device = f[1]
		case len(f) > 1:
			lines = append(lines, fmt.Sprintf("group %s %s", device, f[0]))
		}
	}
	mld, err := os.ReadFile("/proc/thread-self/net/igmp6")
	if errors.Is(err, os.ErrNotExist) {
		return lines, nil // a kernel without IPv6
	}
	for line := range strings.Lines(string(mld)) {
		if f := strings.Fields(line); len(f) > 2 {
			lines = append(lines, fmt.Sprintf("group %s %s", f[1], f[2]))
		}
	}
	return lines, err
}

// fdbLines lists what `bridge fdb` shows: MACs added by hand to interfaces.
func fdbLines() ([]string, error) {
	entries, err := netlink.NeighList(0, unix.AF_BRIDGE)
	if err != nil {
		return nil, fmt.Errorf("list bridge tables: %w", err)
	}
	var lines []string
	for _, e := range entries {
		lines = append(lines, fmt.Sprintf("fdb %d %s", e.LinkIndex, e.HardwareAddr))
	}
	return lines, nil
}

// sysctlLines lists settings that a clustering program may touch.
func sysctlLines() ([]string, error) {
	const root = "/proc/sys/net/ipv4/conf"
	links, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, link := range links {
		for _, name := range sysctls {
			value, err := os.ReadFile(root + "/" + link.Name() + "/" + name)
			if err != nil {
				return nil, err
			}
			lines = append(lines, fmt.Sprintf("sysctl %s %s=%s", link.Name(), name, strings.TrimSpace(string(value))))
		}
	}
	return lines, nil
}
