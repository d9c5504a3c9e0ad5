package nft

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"earshot/hashmode"
	"earshot/nft/nfttest"
)

// tracked is conntrack as a Plane reads it.
func (w *world) tracked(p *Plane) (all []tracked, bodies [][]byte) {
	w.t.Helper()
	must(w.t, p.tracker.ask(func(c *netfilter) error {
		return c.list(func(f tracked, body []byte) {
			all, bodies = append(all, f), append(bodies, slices.Clone(body))
		})
	}))
	return all, bodies
}

// listed is conntrack as another program reads it, in the same words.
func (w *world) listed() (all []string) {
	w.t.Helper()
	tell := func(t netlink.IPTuple) flowKey {
		source, _ := netip.AddrFromSlice(t.SrcIP)
		dest, _ := netip.AddrFromSlice(t.DstIP)
		return flowKey{netip.AddrPortFrom(source.Unmap(), t.SrcPort), netip.AddrPortFrom(dest.Unmap(), t.DstPort)}
	}
	w.node.Do(func() {
		for _, family := range []netlink.InetFamily{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
			must(w.t, err)
			for _, f := range flows {
				own := tracked{protocol: f.Forward.Protocol, original: tell(f.Forward), reply: tell(f.Reverse)}
				if info, ok := f.ProtoInfo.(*netlink.ProtoInfoTCP); ok {
					own.state = info.State
				}
				if f.TimeStart != 0 {
					own.began = time.Unix(0, int64(f.TimeStart))
				}
				all = append(all, fmt.Sprint(own))
			}
		}
	})
	slices.Sort(all)
	return all
}

// Conntrack's list is read as others read it: both families, with ports and
// without, open and closed, and when they began.
func TestConntrackIsReadAsOthersReadIt(t *testing.T) {
	w := newWorld(t)
	w.serve()
	p := w.plane()
	leased(t, p, 1, webOf(false, all16(), hashmode.Set{}, hashmode.Set{}), webOf(true, all16(), hashmode.Set{}, hashmode.Set{}))
	w.node.Do(func() { must(t, writeInt("/proc/sys/net/netfilter/nf_conntrack_timestamp", 1)) })
	before := time.Now()
	o := w.observer()
	for _, v6 := range []bool{false, true} {
		for b := range hashmode.Bucket(3) {
			data := w.handshake(o, clientOfIP(v6, ownAll().Hash, b, 0))
			if b == 0 {
				data.Flags |= nfttest.RST
				o.passed(data)
			}
		}
		for i := range uint32(100) {
			from := netip.AddrPortFrom(remote(v6, 7+i), uint16(3000+i))
			o.passed(udp(from, 80))
			if !v6 {
				o.passed(nfttest.Echo(from, shared(), uint16(i), 1))
			}
		}
	}
	var all []tracked
	eventually(t, "the same list twice", func() bool {
		want := w.listed()
		all, _ = w.tracked(p)
		var got []string
		for _, f := range all {
			got = append(got, fmt.Sprint(f))
		}
		slices.Sort(got)
		return slices.Equal(got, want)
	})
	protocols, states := map[uint8]int{}, map[byte]int{}
	for _, f := range all {
		protocols[f.protocol]++
		states[f.state]++
		// What the host itself sent before the times were asked for has none.
		to := f.original.server.Addr()
		ours := to == sharedOf(false) || to == sharedOf(true)
		if ours && (f.began.Before(before.Add(-time.Second)) || f.began.After(time.Now().Add(time.Second))) {
			t.Errorf("%v began at %v", f, f.began)
		}
	}
	if protocols[nfttest.TCP] != 6 || protocols[nfttest.UDP] < 200 || protocols[nfttest.ICMP] < 100 || states[ctEstablished] != 4 || states[ctClose] != 2 {
		t.Errorf("protocols %v, states %v", protocols, states)
	}
}

// A message that is cut off or damaged is read without harm.
func TestDamagedConntrackMessages(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	leased(t, p, 1, ownAll())
	w.flows(p, false, 1)
	_, bodies := w.tracked(p)
	whole := bodies[0]
	for n := range whole {
		readTracked(whole[:n])
		appendDelete(nil, 0, slices.Concat(whole[:n], make([]byte, max(0, netfilterHeader-n))))
		for _, bit := range []byte{1, 2, 4, 0x80, 0xff} {
			damaged := slices.Clone(whole)
			damaged[n] ^= bit
			readTracked(damaged)
			appendDelete(nil, 0, damaged)
		}
	}
}

// What counting costs when nearly all that conntrack lists has ended, or is
// another's.
func BenchmarkFlows(b *testing.B) {
	for _, n := range []int{100, 20_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := newWorld(b)
			p := w.plane()
			must(b, p.Apply(Ruleset{Index: 1, Services: []Service{ownAll()}}))
			leaseLong(b, p)
			w.flows(p, false, n)
			for b.Loop() {
				_, err := p.Flows([]Service{ownAll()})
				must(b, err)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/flow")
		})
	}
}
