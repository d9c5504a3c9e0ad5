package nft

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"earshot/hashmode"
	"earshot/nft/nfttest"
)

// Each state of a bucket against each kind of packet where the rules hold:
// the verdict table with rule P24.
func TestHoldTable(t *testing.T) { eachIP(t, holdTable) }

func holdTable(t *testing.T, v6 bool) {
	const bucket = 5
	states := map[string]map[string]string{
		"own": {
			"known": "pass", "known SYN": "pass", "SYN": "pass", "options": "pass", "mid-stream": "pass", "UDP": "pass", "known UDP": "pass",
			"echo": "pass", "ESP": "pass", "other port": "pass", "fragments": "pass", "related error": "pass", "error": "drop"},
		"inherit": {
			"known": "pass", "known SYN": "pass", "SYN": "pass", "options": "pass", "mid-stream": "drop", "UDP": "hold", "known UDP": "pass",
			"echo": "hold", "ESP": "hold", "other port": "hold", "fragments": "hold", "related error": "pass", "error": "drop"},
		"take": {
			"known": "pass", "known SYN": "hold", "SYN": "hold", "options": "hold", "mid-stream": "drop", "UDP": "hold", "known UDP": "pass",
			"echo": "hold", "ESP": "hold", "other port": "hold", "fragments": "hold", "related error": "pass", "error": "drop"},
		"drain": {
			"known": "pass", "known SYN": "drop", "SYN": "drop", "options": "drop", "mid-stream": "drop", "UDP": "drop", "known UDP": "pass",
			"echo": "drop", "ESP": "drop", "other port": "drop", "fragments": "drop", "related error": "pass", "error": "drop"},
		"foreign": {
			"known": "drop", "known SYN": "drop", "SYN": "drop", "options": "drop", "mid-stream": "drop", "UDP": "drop", "known UDP": "drop",
			"echo": "drop", "ESP": "drop", "other port": "drop", "fragments": "drop", "related error": "pass", "error": "drop"},
	}
	for state, want := range states {
		t.Run(state, func(t *testing.T) {
			w := newWorld(t)
			p := w.plane()
			w.serve()
			leased(t, p, 1, webOf(v6, all16(), hashmode.Set{}, hashmode.Set{}))
			o := w.observer()
			spec := ownAll().Hash
			known, other := clientOfIP(v6, spec, bucket, 0), clientOfIP(v6, spec, bucket, 1)
			data := w.handshake(o, known)
			if o.passed(udp(known, 80)) != 1 {
				t.Fatal("the flow that is to be known was not opened")
			}
			k := w.keep(p)
			must(t, p.Apply(heldBy(2, inState(v6, state, bucket))))
			kinds := packets(known, other)
			kinds["known"], kinds["ESP"] = data, esp(other)
			for _, name := range slices.Sorted(maps.Keys(kinds)) {
				got, held := k.send(o, kinds[name])
				if got != want[name] {
					t.Errorf("%s: %s, want %s", name, got, want[name])
				}
				for _, h := range held {
					opens := name == "SYN" || name == "known SYN" || name == "options"
					if h.Service != w.serviceName(v6) || h.Bucket != bucket || h.Opens != opens || h.Flow != flowOf(kinds[name]) {
						t.Errorf("%s is held as %+v", name, h)
					}
				}
			}
		})
	}
}

func (w *world) serviceName(v6 bool) string {
	return webOf(v6, hashmode.Set{}, hashmode.Set{}, hashmode.Set{}).Name
}

func esp(from netip.AddrPort) nfttest.Packet {
	return nfttest.Packet{From: from, To: to(from, 0), Protocol: nfttest.ESP, Payload: append([]byte{1, 2, 3, 4}, make([]byte, 36)...)}
}

// flowOf is a packet's flow as conntrack names it.
func flowOf(p nfttest.Packet) Flow {
	f := Flow{Protocol(p.Protocol), p.From, p.To}
	switch p.Protocol {
	case nfttest.ICMP, nfttest.ICMP6:
		f.Client = netip.AddrPortFrom(p.From.Addr(), uint16(p.Payload[4])<<8|uint16(p.Payload[5]))
		f.Server = netip.AddrPortFrom(p.To.Addr(), uint16(p.Payload[0])<<8|uint16(p.Payload[1]))
	case nfttest.ESP, nfttest.GRE, nfttest.AH:
		f.Client, f.Server = netip.AddrPortFrom(p.From.Addr(), 0), netip.AddrPortFrom(p.To.Addr(), 0)
	}
	return f
}

// The switch turns with packets under way and back.
func TestHoldSwitch(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	s := holding(web(buckets(0, 7), buckets(8, 9), buckets(10, 11)))
	for i := range 4 {
		rs := Ruleset{Index: uint64(i + 1), Hold: i%2 == 1, Services: []Service{s}}
		must(t, p.Apply(rs))
		w.mustHold(rs)
		if i%2 == 1 { // another process finds it so
			must(t, w.plane().Apply(rs))
			w.mustHold(rs)
		}
	}
}
