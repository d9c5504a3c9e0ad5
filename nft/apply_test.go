package nft

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"earshot/hashmode"
	"earshot/nft/nfttest"
)

// handles tells all rules of our tables by their handles, which a rule that
// was written anew would not keep.
func (w *world) handles() string {
	return w.eachRule(func(r *nftables.Rule) string { return fmt.Sprint(r.Handle) })
}

// rules tells what the rules do.
func (w *world) rules() string {
	return w.eachRule(func(r *nftables.Rule) string {
		text, err := canonical(r.Table.Family, r.Exprs)
		must(w.t, err)
		return fmt.Sprintf("%x", text)
	})
}

func (w *world) eachRule(tell func(*nftables.Rule) string) string {
	w.t.Helper()
	var lines []string
	w.node.Do(func() {
		c, err := nftables.New()
		must(w.t, err)
		for _, f := range families() {
			chains, err := c.ListChainsOfTableFamily(f)
			must(w.t, err)
			for _, ch := range chains {
				if ch.Table.Name != TableName {
					continue
				}
				rules, err := c.GetRules(ch.Table, ch)
				must(w.t, err)
				for i, r := range rules {
					lines = append(lines, fmt.Sprint(familyName(f), " ", ch.Name, " ", i, " ", tell(r)))
				}
			}
		}
	})
	slices.Sort(lines) // chains come in the order of their making
	return strings.Join(lines, "\n")
}

// A restarted agent adopts what it finds: no rule is written anew, and the
// lease runs on.
func TestAdoption(t *testing.T) {
	w := newWorld(t)
	leased(t, w.plane(), 7, ownAll(), other())
	before := w.handles()
	second := w.plane()
	if index, ok, err := second.Held(); index != 7 || !ok || err != nil {
		t.Fatalf("held %d, %v, %v", index, ok, err)
	}
	moved := web(buckets(0, 3), buckets(4, 7), buckets(8, 15))
	must(t, second.Apply(Ruleset{Index: 8, Services: []Service{other(), moved}}))
	if after := w.handles(); after != before {
		t.Fatalf("rules were rewritten:\n%s\nwere\n%s", after, before)
	}
	if w.left(second) == 0 {
		t.Fatal("the lease was lost")
	}
	got := w.kernel()
	if want := contentsOf(Ruleset{Index: 8, Services: []Service{other(), moved}}); !sameContents(got, want) {
		t.Fatalf("kernel holds %v, want %v", got, want)
	}
}

func (w *world) kernel() contents {
	w.t.Helper()
	var k kernel
	w.node.Do(func() {
		c, err := nftables.New()
		must(w.t, err)
		k, err = readKernel(c)
		must(w.t, err)
	})
	return k.contents
}

func sameContents(a, b contents) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

// other is a second service beside web: another address, every port.
func other() Service {
	addr := netip.MustParseAddr("192.168.56.30")
	return Service{
		Name: "all-ports", Address: addr, Interface: "eth1", MAC: DefaultMAC(addr),
		Hash: hashmode.Spec{Mode: hashmode.SourceIP, Buckets: 64, Seed: 99}, Own: hashmode.Range(0, 63),
	}
}

// The kernel never goes back to an older map (rule P11), not even when it
// has lost its tables meanwhile.
func TestOlderMapIsRefused(t *testing.T) {
	w := newWorld(t)
	leased(t, w.plane(), 7, ownAll())
	p := w.plane()
	none := web(hashmode.Set{}, hashmode.Set{}, hashmode.Set{})
	if err := p.Apply(Ruleset{Index: 6, Services: []Service{none}}); !errors.Is(err, ErrOlder) {
		t.Fatalf("error %v", err)
	}
	if got := w.kernel(); !sameContents(got, contentsOf(Ruleset{Index: 7, Services: []Service{ownAll()}})) {
		t.Fatalf("kernel holds %v", got)
	}
	must(t, p.Apply(Ruleset{Index: 1 << 40, Services: []Service{none}}))
	w.flushRuleset()
	p.Resync()
	if err := p.Apply(Ruleset{Index: 8, Services: []Service{none}}); !errors.Is(err, ErrOlder) {
		t.Fatalf("error after the tables were lost: %v", err)
	}
	must(t, p.Apply(Ruleset{Index: 1 << 40, Services: []Service{none}}))
	if index, _, err := p.Held(); index != 1<<40 || err != nil {
		t.Fatalf("held %d, %v", index, err)
	}
}

func (w *world) flushRuleset() {
	w.t.Helper()
	w.node.Do(func() {
		c, err := nftables.New()
		must(w.t, err)
		c.FlushRuleset()
		must(w.t, c.Flush())
	})
}

// damage is what others do to our tables.
func damage() map[string]func(t testing.TB, c *nftables.Conn) {
	return map[string]func(testing.TB, *nftables.Conn){
		"flush ruleset": func(t testing.TB, c *nftables.Conn) { c.FlushRuleset() },
		"delete table":  func(t testing.TB, c *nftables.Conn) { c.DelTable(tableOf(inet)) },
		"flush chain": func(t testing.TB, c *nftables.Conn) {
			c.FlushChain(&nftables.Chain{Table: tableOf(inet), Name: chainDrain})
		},
		"replaced rule": func(t testing.TB, c *nftables.Conn) {
			ch := &nftables.Chain{Table: tableOf(inet), Name: chainInherit}
			rules, err := c.GetRules(ch.Table, ch)
			must(t, err)
			must(t, c.DelRule(rules[len(rules)-1]))
			c.AddRule(&nftables.Rule{Table: ch.Table, Chain: ch, Exprs: when(accept()).exprs()})
		},
		"other rule": func(t testing.TB, c *nftables.Conn) {
			c.InsertRule(&nftables.Rule{Table: tableOf(inet), Chain: &nftables.Chain{Name: "prerouting"}, Exprs: when(accept()).exprs()})
		},
		"other chain and set": func(t testing.TB, c *nftables.Conn) {
			c.AddChain(&nftables.Chain{Table: tableOf(netdev), Name: "stranger"})
			must(t, c.AddSet(&nftables.Set{ID: 9, Table: tableOf(inet), Name: "stranger", KeyType: nftables.TypeMark}, nil))
		},
		"bucket added": func(t testing.TB, c *nftables.Conn) {
			must(t, c.SetAddElements(&nftables.Set{Table: tableOf(inet), Name: setOwn("web")}, []nftables.SetElement{{Key: bucketKey(9)}}))
		},
		"other ICMP errors": func(t testing.TB, c *nftables.Conn) {
			c.FlushSet(&nftables.Set{Table: tableOf(inet), Name: setICMPError})
		},
	}
}

// Whatever others do to our tables is noticed and repaired, and their own
// tables stay as they are.
func TestRepair(t *testing.T) {
	for name, harm := range damage() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p := w.plane()
			foreign := &nftables.Table{Name: "theirs", Family: inet}
			rs := Ruleset{Index: 3, Services: []Service{web(buckets(0, 7), hashmode.Set{}, hashmode.Set{}), other()}}
			leased(t, p, rs.Index, rs.Services...)
			want := w.rules()
			changes := w.watch(p)
			must(t, p.Apply(rs))
			must(t, p.Lease(time.Now().Add(time.Hour)))
			w.node.Do(func() {
				c, err := nftables.New()
				must(t, err)
				harm(t, c)
				must(t, c.Flush())
				c.AddTable(foreign)
				must(t, c.Flush())
			})
			w.next(changes)
			must(t, p.Apply(rs))
			must(t, p.Lease(time.Now().Add(time.Hour)))
			w.mustHold(rs)
			if got := w.rules(); got != want {
				t.Errorf("rules\n%s\nwere\n%s", got, want)
			}
			w.node.Do(func() {
				c, err := nftables.New()
				must(t, err)
				if _, err := c.ListTableOfFamily("theirs", inet); err != nil {
					t.Errorf("the foreign table: %v", err)
				}
			})
		})
	}
}

// mustHold compares the kernel with a fresh rendering, rule by rule.
func (w *world) mustHold(rs Ruleset) {
	w.t.Helper()
	want, err := render(rs, w.queue)
	must(w.t, err)
	w.node.Do(func() {
		c, err := nftables.New()
		must(w.t, err)
		k, err := readKernel(c)
		must(w.t, err)
		if !k.has(want) || !sameContents(k.contents, want.contents) {
			w.t.Errorf("the kernel does not hold the ruleset: %v", k.contents)
		}
	})
}

// What is no longer in the ruleset leaves nothing behind, and Flush neither.
func TestRemoval(t *testing.T) {
	w := newWorld(t)
	empty := w.traces()
	p := w.plane()
	leased(t, p, 1, ownAll(), other())
	if got := w.traces(); !strings.Contains(got, "192.168.56.30") || !strings.Contains(got, "01005e28381e") {
		t.Fatalf("address or MAC missing: %s", got)
	}
	must(t, p.Apply(Ruleset{Index: 2, Services: []Service{ownAll()}}))
	if got := w.traces(); strings.Contains(got, "192.168.56.30") || strings.Contains(got, "01005e28381e") || strings.Contains(w.list(), "all-ports") {
		t.Fatalf("the removed service is still there: %s\n%s", got, w.list())
	}
	w.mustHold(Ruleset{Index: 2, Services: []Service{ownAll()}})
	w.node.Do(func() {
		removed, err := Flush(p.log)
		must(t, err)
		want := "[address 192.168.56.20 on eth1 MAC 01:00:5e:28:38:14 on eth1 arp_announce 2 of eth1, which is 0 again table netdev earshot table inet earshot table arp earshot]"
		if got := fmt.Sprint(removed); got != want {
			t.Errorf("removed %s, want %s", got, want)
		}
		again, err := Flush(p.log)
		must(t, err)
		if len(again) != 0 {
			t.Errorf("the second Flush removed %v", again)
		}
	})
	if got := w.traces(); got != empty || w.list() != "" {
		t.Fatalf("left behind: %s (was %s)\n%s", got, empty, w.list())
	}
}

// A `flush ruleset` of others takes the names with it: the label tells.
func TestFlushWithoutTables(t *testing.T) {
	w := newWorld(t)
	empty := w.traces()
	leased(t, w.plane(), 1, ownAll())
	w.flushRuleset()
	w.node.Do(func() {
		_, err := Flush(w.plane().log)
		must(t, err)
	})
	if got := w.traces(); got != empty {
		t.Fatalf("left behind: %s (was %s)", got, empty)
	}
}

// traces lists addresses and MACs of the node.
func (w *world) traces() string {
	w.t.Helper()
	var out strings.Builder
	p := w.plane()
	addrs, _, err := p.listAddresses()
	must(w.t, err)
	for _, a := range addrs {
		if !addrOf(a).IsLinkLocalUnicast() { // which come and go with the link
			fmt.Fprintln(&out, a)
		}
	}
	for _, m := range w.joined("eth1") {
		fmt.Fprintf(&out, "%x\n", []byte(m))
	}
	return out.String()
}

// An address that the node has of its own is refused, and the rest applied.
func TestOwnAddressIsRefused(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	mine := ownAll()
	mine.Name, mine.Address = "mine", netip.MustParseAddr(nodeIP)
	err := p.Apply(Ruleset{Index: 1, Services: []Service{mine, other()}})
	if !errors.Is(err, ErrOwnAddress) {
		t.Fatalf("error %v", err)
	}
	w.mustHold(Ruleset{Index: 1, Services: []Service{other()}})
	if !strings.Contains(w.traces(), nodeIP+"/24") {
		t.Fatal("the node's own address is gone")
	}
}

// A service whose interface comes later is completed then.
func TestInterfaceComesLater(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	late := other()
	late.Interface = "eth2"
	rs := Ruleset{Index: 1, Services: []Service{ownAll(), late}}
	if err := p.Apply(rs); !errors.Is(err, ErrNoInterface) {
		t.Fatalf("error %v", err)
	}
	if _, err := p.Carrier("eth2"); !errors.Is(err, ErrNoInterface) {
		t.Fatalf("carrier: %v", err)
	}
	changes := w.watch(p)
	nfttest.Veth(w.node, "eth2", w.client, "c2")
	w.next(changes)
	eventually(t, "carrier", func() bool { up, err := p.Carrier("eth2"); return up && err == nil })
	must(t, p.Apply(rs))
	w.mustHold(rs)
	if up, err := p.Carrier("eth1"); !up || err != nil {
		t.Fatalf("carrier of eth1: %v, %v", up, err)
	}
}

// An interface that is made anew gets its hook, address and MAC again.
func TestInterfaceIsMadeAnew(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	rs := Ruleset{Index: 1, Services: []Service{ownAll()}}
	leased(t, p, 1, rs.Services...)
	want := w.traces()
	changes := w.watch(p)
	w.node.Do(func() {
		link, err := netlink.LinkByName("eth1")
		must(t, err)
		must(t, netlink.LinkDel(link))
	})
	w.next(changes)
	if err := p.Apply(rs); !errors.Is(err, ErrNoInterface) {
		t.Fatalf("error %v", err)
	}
	nfttest.Veth(w.node, "eth1", w.client, "c1")
	w.addresses()
	w.next(changes)
	must(t, p.Apply(rs))
	w.mustHold(rs)
	if got := w.traces(); !sameLines(got, want) {
		t.Fatalf("traces %s, want %s", got, want)
	}
	w.clientMAC, w.nodeMAC = w.mac(w.client, "c1"), w.mac(w.node, "eth1")
	if w.observer().passed(tcp(clientOf(ownAll().Hash, 3, 0), nfttest.SYN)) != 1 {
		t.Fatal("nothing passes on the new interface")
	}
}

func sameLines(a, b string) bool { return strings.Count(a, "\n") == strings.Count(b, "\n") }

// A table that others put to sleep lets everything pass: it is woken.
func TestDormantTableIsWoken(t *testing.T) {
	path, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("nft is not installed: nothing else here can put a table to sleep")
	}
	w := newWorld(t)
	p := w.plane()
	rs := Ruleset{Index: 1, Services: []Service{ownAll()}}
	leased(t, p, 1, rs.Services...)
	changes := w.watch(p)
	w.node.Do(func() {
		out, err := exec.Command(path, "add table inet earshot { flags dormant; }").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	})
	w.next(changes)
	must(t, p.Apply(rs))
	w.mustHold(rs)
	if strings.Contains(w.list(), "dormant") {
		t.Fatalf("still dormant:\n%s", w.list())
	}
	must(t, p.Revoke())
	if w.observer().passed(udp(clientOf(ownAll().Hash, 3, 0), 80)) != 0 {
		t.Fatal("the hooks are not back")
	}
}
