package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"

	"earshot/e2e/lab"
	"earshot/hashmode"
	"earshot/nft"
	"earshot/nft/nfttest"
)

// The ways to decide about a frame, and what they are measured against.
const (
	wayIngressDrop = "drop at netdev ingress"
	wayMangleDrop  = "drop by iptables, mangle"
	wayNFTDrop     = "drop by nft, prerouting"
	wayNothing     = "no rules"
	wayEarshot     = "Earshot"
	wayXTCluster   = "xt_cluster recipe"
	wayPacemaker   = "Pacemaker's nft rules"
)

const (
	frameDevice = "eth1"
	frameSeed   = 0x6ea45407
	framePort   = 80
)

// frameWay is a node with rules of one kind.
type frameWay struct {
	name string
	base string // the bare drop at the same hook; "": it is one itself
	// rules installs the rules in the node's namespace.
	rules func(context.Context, *lab.Namespace) error
	// owns reports whether the node takes a client's frames. Nil: the way gets
	// one kind alone.
	owns func(netip.AddrPort) bool
	kind frameKind // where owns is nil

	node  *lab.Namespace
	sends [frameKinds]*frameSend
	took  [frameKinds][]float64 // ns per frame, by round
}

// frameWays are all of them. Every node has a third of the buckets, or is the
// first of three nodes.
func frameWays() []*frameWay {
	spec := hashmode.Spec{Mode: hashmode.SourceIPSourcePort, Buckets: buckets, Seed: frameSeed}
	own := thirdOf(spec.Buckets)
	// What the other two compute is our hash of the address, too.
	byAddress := hashmode.Spec{Mode: hashmode.SourceIP, Buckets: frameNodes, Seed: frameSeed}
	first := func(from netip.AddrPort) bool { return byAddress.Bucket(from, 0) == 0 }
	return []*frameWay{
		{name: wayIngressDrop, rules: dropAtIngress, kind: foreignFrames},
		{name: wayEarshot, base: wayIngressDrop, rules: earshotRules(spec, own),
			owns: func(from netip.AddrPort) bool { return own.Has(spec.Bucket(from, framePort)) }},
		{name: wayMangleDrop, rules: dropByIPTables, kind: foreignFrames},
		{name: wayXTCluster, base: wayMangleDrop, rules: xtClusterRules, owns: first},
		{name: wayNFTDrop, rules: dropByNFT, kind: foreignFrames},
		{name: wayPacemaker, base: wayNFTDrop, rules: pacemakerRules, owns: first},
		{name: wayNothing, rules: func(_ context.Context, n *lab.Namespace) error { return sharedHere(n) }, kind: ownFrames},
	}
}

// thirdOf is every third bucket.
func thirdOf(buckets int) hashmode.Set {
	var s hashmode.Set
	for b := 0; b < buckets; b += frameNodes {
		s.Add(hashmode.Bucket(b))
	}
	return s
}

// frameLab is a sender with a cable to each way's node.
type frameLab struct {
	senders *lab.Namespace
	ways    []*frameWay
}

func (f *frameLab) way(name string) *frameWay {
	for _, w := range f.ways {
		if w.name == name {
			return w
		}
	}
	return nil
}

// newFrameLab makes the nodes. What this machine has no program or kernel
// for is left out, and said in a note.
func newFrameLab(ctx context.Context) (f *frameLab, notes []string, err error) {
	f = &frameLab{}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	if f.senders, err = lab.NewNamespace("sender"); err != nil {
		return f, nil, err
	}
	for i, w := range frameWays() {
		err := f.add(ctx, w, fmt.Sprintf("c%d", i))
		switch {
		case errors.Is(err, errNoRules):
			notes = append(notes, "SKIPPED "+err.Error())
		case err != nil:
			return f, notes, fmt.Errorf("%s: %w", w.name, err)
		}
	}
	// A way whose bare drop is missing has nothing to be held against.
	f.ways = slices.DeleteFunc(f.ways, func(w *frameWay) bool { return w.base != "" && f.way(w.base) == nil })
	return f, notes, nil
}

// close removes the namespaces with all that is in them.
func (f *frameLab) close() error {
	for _, w := range f.ways {
		for _, s := range w.sends {
			if s != nil {
				s.close()
			}
		}
		w.node.Close()
	}
	if f.senders != nil {
		f.senders.Close()
	}
	return nil
}

// add makes a way's node, and makes sure that it tells own from foreign.
func (f *frameLab) add(ctx context.Context, w *frameWay, cable string) (err error) {
	if w.node, err = lab.NewNamespace(w.name); err != nil {
		return err
	}
	nodeMAC := net.HardwareAddr{2, 0xea, 9, 0, 0, 1}
	if err = f.senders.Do(func() error { return frameCable(cable, w.node, nodeMAC) }); err == nil {
		err = w.node.Do(func() error { return errors.Join(frameAddresses(), countAtInput()) })
	}
	if err == nil {
		err = w.rules(ctx, w.node)
	}
	if err != nil {
		w.node.Close()
		return err
	}
	f.ways = append(f.ways, w)
	for kind := range frameKinds {
		if w.owns == nil && kind != w.kind {
			continue
		}
		if err := f.plug(w, kind, cable); err != nil {
			return err
		}
	}
	return nil
}

// plug opens the socket for one kind of frames, and counts how many of them
// reach the node's input hook: all of its own and none of the others.
func (f *frameLab) plug(w *frameWay, kind frameKind, cable string) error {
	frames := framesFor(w, kind)
	err := f.senders.Do(func() (err error) {
		w.sends[kind], err = newFrameSend(cable, frames)
		return err
	})
	if err != nil {
		return err
	}
	before, err := w.counted()
	if err != nil {
		return err
	}
	if err := f.senders.Do(func() error { return w.sends[kind].send(framePool / frameChunk) }); err != nil {
		return err
	}
	want := uint64(0)
	if kind == ownFrames {
		want = framePool
	}
	// The last frames may still be on their way when send returns.
	return lab.Poll(context.Background(), formLimit, func() error {
		after, err := w.counted()
		if err == nil && after-before != want {
			err = fmt.Errorf("%d of %d %s frames reached the input hook, want %d", after-before, framePool, kind, want)
		}
		return err
	})
}

// framesFor are TCP segments of as many clients, all of one kind to the way.
func framesFor(w *frameWay, kind frameKind) [][]byte {
	random := rand.New(rand.NewPCG(1, uint64(kind)))
	mac, _ := net.ParseMAC(clusterMAC)
	var frames [][]byte
	for len(frames) < framePool {
		n := random.Uint32()
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), uint16(1024+random.IntN(60000)))
		if w.owns != nil && w.owns(from) != (kind == ownFrames) {
			continue
		}
		p := nfttest.Packet{From: from, To: netip.AddrPortFrom(shared, framePort), Protocol: nfttest.TCP, Flags: nfttest.ACK}
		frames = append(frames, p.Frames(net.HardwareAddr{2, 0xea, 9, 0, 0, 2}, mac)...)
	}
	return frames
}

// frameCable joins the current namespace and the node.
func frameCable(name string, node *lab.Namespace, mac net.HardwareAddr) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerHardwareAddr, veth.PeerNamespace = frameDevice, mac, netlink.NsFd(node.Fd())
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("add cable: %w", err)
	}
	return netlink.LinkSetUp(veth)
}

// frameAddresses gives the node its own address and the shared one.
func frameAddresses() error {
	link, err := netlink.LinkByName(frameDevice)
	if err != nil {
		return err
	}
	own, err := netlink.ParseAddr("192.168.56.11/24")
	if err != nil {
		return err
	}
	return errors.Join(netlink.LinkSetUp(link), netlink.AddrAdd(link, own))
}

// counted is how many frames reached the node's input hook.
func (w *frameWay) counted() (n uint64, err error) {
	err = w.node.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		rules, err := c.GetRules(&nftables.Table{Name: "bench", Family: nftables.TableFamilyIPv4}, &nftables.Chain{Name: "input"})
		if err != nil || len(rules) != 1 {
			return fmt.Errorf("read counter: %d rules, %w", len(rules), err)
		}
		n = rules[0].Exprs[0].(*expr.Counter).Packets
		return nil
	})
	return n, err
}

// countAtInput drops all that reaches the input hook, and counts it.
func countAtInput() error {
	return dropping(nftables.TableFamilyIPv4, &nftables.Chain{
		Name: "input", Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
	}, &expr.Counter{})
}

// dropping installs a chain that drops everything.
func dropping(family nftables.TableFamily, chain *nftables.Chain, before ...expr.Any) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	chain.Table, chain.Type = c.AddTable(&nftables.Table{Name: "bench", Family: family}), nftables.ChainTypeFilter
	c.AddChain(chain)
	c.AddRule(&nftables.Rule{Table: chain.Table, Chain: chain, Exprs: append(before, &expr.Verdict{Kind: expr.VerdictDrop})})
	return c.Flush()
}

func dropAtIngress(_ context.Context, n *lab.Namespace) error {
	return n.Do(func() error {
		return dropping(nftables.TableFamilyNetdev, &nftables.Chain{
			Name: "drop", Hooknum: nftables.ChainHookIngress, Priority: nftables.ChainPriorityRef(-500), Device: frameDevice,
		})
	})
}

func dropByNFT(_ context.Context, n *lab.Namespace) error {
	return n.Do(func() error {
		return dropping(nftables.TableFamilyIPv4, &nftables.Chain{
			Name: "drop", Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle,
		})
	})
}

// earshotRules installs our own, with a lease that outlasts the benchmark.
func earshotRules(spec hashmode.Spec, own hashmode.Set) func(context.Context, *lab.Namespace) error {
	return func(_ context.Context, n *lab.Namespace) error {
		mac, err := net.ParseMAC(clusterMAC)
		if err != nil {
			return err
		}
		return n.Do(func() error {
			p, err := nft.Open(slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			defer p.Close()
			err = p.Apply(nft.Ruleset{Index: 1, Services: []nft.Service{{
				Name: service, Address: shared, Interface: frameDevice, MAC: mac, Hash: spec,
				Ports: []nft.Port{{Protocol: nft.TCP, Number: framePort}}, Own: own,
			}}})
			return errors.Join(err, p.Lease(time.Now().Add(time.Hour)))
		})
	}
}

// errNoRules is wrapped where rules cannot be had on this machine.
var errNoRules = errors.New("rules cannot be installed")

// command runs an installed program in the node.
func command(ctx context.Context, n *lab.Namespace, program, stdin string, args ...string) error {
	path, err := findProgram(program)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", n.Name, errNoRules, err)
	}
	r, err := n.Run(ctx, lab.Command{Path: path, Args: args, Stdin: strings.NewReader(stdin)})
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("%s: %w: %s %s: %s", n.Name, errNoRules, program, strings.Join(args, " "), lastLine([]byte(r.Stderr)))
	}
	return err
}

// sharedHere gives the node the shared address, for ways that do not do it
// themselves.
func sharedHere(n *lab.Namespace) error {
	return n.Do(func() error {
		link, err := netlink.LinkByName(frameDevice)
		if err != nil {
			return err
		}
		return netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: shared.AsSlice(), Mask: net.CIDRMask(32, 32)}})
	})
}

func dropByIPTables(ctx context.Context, n *lab.Namespace) error {
	return command(ctx, n, "iptables-legacy", "", "-w", "-t", "mangle", "-A", "PREROUTING", "-i", frameDevice, "-j", "DROP")
}

// xtClusterRules are the example of iptables-extensions(8), without its second
// interface. Node 1 takes the hash's first third.
func xtClusterRules(ctx context.Context, n *lab.Namespace) error {
	mangle := []string{"-w", "-t", "mangle", "-A", "PREROUTING", "-i", frameDevice}
	return errors.Join(
		sharedHere(n),
		command(ctx, n, "iptables-legacy", "", append(mangle, "-m", "cluster", "--cluster-total-nodes", fmt.Sprint(frameNodes),
			"--cluster-local-node", "1", "--cluster-hash-seed", fmt.Sprint(frameSeed), "-j", "MARK", "--set-mark", "0xffff")...),
		command(ctx, n, "iptables-legacy", "", append(mangle, "-m", "mark", "!", "--mark", "0xffff", "-j", "DROP")...),
	)
}

// pacemakerRules are what the resource agent IPaddr2 of ClusterLabs
// (resource-agents since June 2026, clusterip_firewall=nft) installs on the
// first of the nodes.
func pacemakerRules(ctx context.Context, n *lab.Namespace) error {
	return errors.Join(sharedHere(n), command(ctx, n, "nft", fmt.Sprintf(`table ip IPaddr2 {
	chain prerouting {
		type filter hook prerouting priority mangle;
		iif %q ip daddr %s jhash ip saddr mod %d seed %d offset 1 == 1 meta pkttype set host accept comment "cip-node-1"
		iif %[1]q ip daddr %[2]s drop
	}
}
`, frameDevice, shared, frameNodes, frameSeed), "-f", "-"))
}
