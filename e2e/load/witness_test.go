package load

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"earshot/e2e/lab"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// groupMAC reaches all nodes at once.
var groupMAC = net.HardwareAddr{0x01, 0x00, 0x5e, 0x28, 0x38, 0x14}

// holdShared gives the current namespace the shared address and has it take frames
// for the group as its own, without any rule about who answers.
func holdShared() error {
	link, err := netlink.LinkByName("eth1")
	if err != nil {
		return err
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: shared.AsSlice(), Mask: net.CIDRMask(32, 32)}}
	if err := netlink.AddrAdd(link, address); err != nil {
		return err
	}
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyNetdev, Name: "all"})
	chain := conn.AddChain(&nftables.Chain{
		Name: "in", Table: table, Type: nftables.ChainTypeFilter, Device: "eth1",
		Hooknum: nftables.ChainHookIngress, Priority: nftables.ChainPriorityFilter,
	})
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{ // meta pkttype set host
		&expr.Immediate{Register: 1, Data: []byte{unix.PACKET_HOST}},
		&expr.Meta{Key: expr.MetaKeyPKTTYPE, SourceRegister: true, Register: 1},
	}})
	return conn.Flush()
}

// pointAtGroup gives the current namespace the group's MAC for the shared
// address.
func pointAtGroup() error {
	link, err := netlink.LinkByName("eth1")
	if err != nil {
		return err
	}
	return netlink.NeighAdd(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, IP: shared.AsSlice(), HardwareAddr: groupMAC, State: netlink.NUD_PERMANENT,
	})
}

// babel is a lab in which every node answers for the shared address.
func babel(t *testing.T, nodes int) *lab.Lab {
	t.Helper()
	l := start(t, nodes)
	for _, n := range l.Nodes {
		// What the client asked for after a pause comes all at once: the burst counts,
		// whatever the rate.
		for limit, value := range map[string]string{"icmp_ratelimit": "0", "icmp_msgs_per_sec": "100000", "icmp_msgs_burst": "100000"} {
			if err := n.Sysctl("net/ipv4/"+limit, value); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.Do(holdShared); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Clients[0].Do(pointAtGroup); err != nil {
		t.Fatal(err)
	}
	return l
}

// I1: two nodes that answer one client do not escape the witness, whatever
// the protocol and although the client itself may notice nothing.
func TestWitnessSeesDoubleAnswers(t *testing.T) {
	for nodes, double := range map[int]bool{1: false, 2: true} {
		l := babel(t, nodes)
		for _, c := range []struct {
			kind  Kind
			port  uint16
			proto Proto
		}{{HTTP, 80, TCP}, {HTTP, 82, TCP}, {UDP, 7000, Datagram}, {UDP, 7001, Datagram}, {ICMP, 0, Echo}} {
			w := watch(t, l)
			p := plan(l, c.kind, c.port)
			p.Target = netip.AddrPortFrom(shared, c.port)
			t.Logf("%d nodes, %s %d: %v", nodes, c.kind, c.port, finish(t, l, p).Summary())
			v, err := w.Verdict(c.proto)
			if err != nil {
				t.Fatal(err)
			}
			if wrong := len(v.Twice) + len(v.Mixed); v.Asked != 200 || v.Unanswered > 0 || double != (wrong >= 190) || !double && wrong > 0 {
				t.Errorf("%d nodes, %s %d: %d asked, %d unanswered, %d twice, %d mixed, %.300s",
					nodes, c.kind, c.port, v.Asked, v.Unanswered, len(v.Twice), len(v.Mixed), fmt.Sprint(v.Twice))
			}
		}
	}
}

// The witness names who answers ARP, and with which MAC.
func TestWitnessSeesARP(t *testing.T) {
	l := start(t, 2)
	w := watch(t, l)
	finish(t, l, plan(l, HTTP, 80))
	arps, err := w.ARPs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range arps {
		if a.Reply && a.Sender == l.Nodes[0].Port.Addr && a.From.String() == l.Nodes[0].Port.MAC.String() &&
			a.SenderMAC.String() == l.Nodes[0].Port.MAC.String() {
			return
		}
	}
	t.Errorf("no reply of n1's in %+v", arps)
}
