package lab

import (
	"net"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// addAddress gives the current namespace's eth1 one more address.
func addAddress() error {
	link, err := netlink.LinkByName("eth1")
	if err != nil {
		return err
	}
	return netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(192, 168, 56, 20), Mask: net.CIDRMask(32, 32)}})
}

// addMAC adds a MAC to eth1 that outlives the process.
func addMAC() error {
	link, err := netlink.LinkByName("eth1")
	if err != nil {
		return err
	}
	return netlink.NeighAdd(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF, State: netlink.NUD_PERMANENT,
		HardwareAddr: net.HardwareAddr{1, 0, 0x5e, 0x28, 0x38, 0x14},
	})
}

// addTable adds a table with a set, an element and a rule.
func addTable() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "stranger"})
	set := &nftables.Set{Table: table, Name: "things", KeyType: nftables.TypeMark}
	if err := conn.AddSet(set, []nftables.SetElement{{Key: []byte{1, 2, 3, 4}}}); err != nil {
		return err
	}
	chain := conn.AddChain(&nftables.Chain{Name: "in", Table: table})
	conn.AddRule(&nftables.Rule{
		Table: table, Chain: chain, UserData: userdata.AppendString(nil, userdata.TypeComment, "strangers"),
		Exprs: []expr.Any{&expr.Counter{Packets: 7}, &expr.Verdict{Kind: expr.VerdictDrop}},
	})
	conn.AddRule(&nftables.Rule{
		Table: table, Chain: chain, UserData: userdata.AppendString(nil, userdata.TypeComment, "nobody"),
		Exprs: []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}},
	})
	return conn.Flush()
}

// A snapshot repeats itself, and shows whatever somebody adds.
func TestSnapshotShowsEveryTrace(t *testing.T) {
	l := Start(t, Options{Nodes: 1})
	n := l.Nodes[0]
	take := func() string {
		t.Helper()
		text, err := n.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	before := take()
	if again := take(); again != before {
		t.Fatalf("nothing changed, but\n%s\nbecame\n%s", before, again)
	}
	for trace, add := range map[string]func() error{
		"address eth1 192.168.56.20/32":         addAddress,
		"mac eth1 01005e283814":                 addMAC,
		"element inet stranger things 01020304": addTable,
		"sysctl eth1 arp_announce=2":            func() error { return writeSysctl("net/ipv4/conf/eth1/arp_announce", "2") },
	} {
		if strings.Contains(before, trace) {
			t.Fatalf("%q is there already", trace)
		}
		if err := n.Do(add); err != nil {
			t.Fatalf("%s: %v", trace, err)
		}
		if after := take(); !strings.Contains(after, trace) {
			t.Errorf("no %q in\n%s", trace, after)
		} else if strings.Contains(after, "Packets:7") {
			t.Errorf("a counter's value in\n%s", after)
		}
	}
}

// Counters shows the rules that have counted something.
func TestCountersShowWhatWasCounted(t *testing.T) {
	n := Start(t, Options{Nodes: 1}).Nodes[0]
	if err := n.Do(addTable); err != nil {
		t.Fatal(err)
	}
	if got, err := n.Counters(); err != nil || got != "inet in 7 strangers\n" {
		t.Errorf("%q, %v", got, err)
	}
}
