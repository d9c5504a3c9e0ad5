package nft

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"earshot/hashmode"
	"earshot/nft/nfttest"
)

// Each state of a bucket against each kind of packet: the verdict table of
// the design with rules P17, P19 and P20.
func TestVerdictTable(t *testing.T) { eachIP(t, verdictTable) }

func verdictTable(t *testing.T, v6 bool) {
	const bucket = 5
	all, none, one := hashmode.Range(0, 15), hashmode.Set{}, hashmode.NewSet(bucket)
	states := []struct {
		name    string
		service Service
		want    map[string]bool
	}{
		{"own", webOf(v6, one, none, none), map[string]bool{
			"known": true, "known SYN": true, "SYN": true, "options": true, "mid-stream": true, "UDP": true, "known UDP": true,
			"echo": true, "other port": true, "fragments": true, "related error": true, "error": false}},
		{"inherit", webOf(v6, none, one, none), map[string]bool{
			"known": true, "known SYN": true, "SYN": true, "options": true, "mid-stream": false, "UDP": true, "known UDP": true,
			"echo": true, "other port": true, "fragments": true, "related error": true, "error": false}},
		{"drain", webOf(v6, none, none, one), map[string]bool{
			"known": true, "known SYN": false, "SYN": false, "options": false, "mid-stream": false, "UDP": false, "known UDP": false,
			"echo": false, "other port": false, "fragments": false, "related error": true, "error": false}},
		{"foreign", webOf(v6, all.Minus(one), none, none), map[string]bool{
			"known": false, "known SYN": false, "SYN": false, "options": false, "mid-stream": false, "UDP": false, "known UDP": false,
			"echo": false, "other port": false, "fragments": false, "related error": true, "error": false}},
	}
	for _, state := range states {
		t.Run(state.name, func(t *testing.T) {
			w := newWorld(t)
			p := w.plane()
			w.serve()
			leased(t, p, 1, webOf(v6, all, none, none))
			o := w.observer()
			spec := state.service.Hash
			known, other := clientOfIP(v6, spec, bucket, 0), clientOfIP(v6, spec, bucket, 1)
			data := w.handshake(o, known)
			if o.passed(udp(known, 80)) != 1 {
				t.Fatal("the flow that is to be known was not opened")
			}
			must(t, p.Apply(Ruleset{Index: 2, Services: []Service{state.service}}))
			kinds := packets(known, other)
			kinds["known"] = data
			if v6 { // every node needs it
				kinds["solicitation"] = nfttest.Solicit(netip.AddrPortFrom(clientAddr(v6), 0), sharedOf(v6), w.clientMAC)
				state.want["solicitation"] = true
			}
			for _, name := range slices.Sorted(maps.Keys(kinds)) {
				if got := o.passed(kinds[name]) == 1; got != state.want[name] {
					t.Errorf("%s: passed is %v, want %v", name, got, state.want[name])
				}
			}
		})
	}
}

// packets of a client with a TCP and a UDP flow, and of one without.
func packets(known, other netip.AddrPort) map[string]nfttest.Packet {
	// Of a client whose packets without ports are in another bucket.
	fragments := udp(netip.AddrPortFrom(other.Addr().Next(), 0), 80)
	fragments.From = portIn(fragments.From.Addr(), ownAll().Hash.Bucket(other, 80))
	fragments.Fragments, fragments.ID = 24, 77
	answer := nfttest.Packet{From: to(known, 80), To: known, Protocol: nfttest.UDP, Payload: make([]byte, 64)}
	unknown := answer
	unknown.To = netip.AddrPortFrom(known.Addr(), 9)
	router := remote(known.Addr().Is6(), 200<<16)
	options := tcp(other, nfttest.SYN)
	options.Options, options.Seq = true, 2000
	return map[string]nfttest.Packet{
		"known SYN":     tcp(known, nfttest.SYN),
		"SYN":           tcp(other, nfttest.SYN),
		"mid-stream":    tcp(portIn(other.Addr(), ownAll().Hash.Bucket(other, 80)), nfttest.ACK),
		"UDP":           udp(other, 80),
		"known UDP":     udp(known, 80),
		"echo":          nfttest.Echo(other, to(other, 0).Addr(), 7, 1),
		"options":       options,
		"other port":    udp(other, 4711),
		"fragments":     fragments,
		"related error": nfttest.TooBig(router, answer),
		"error":         nfttest.TooBig(router, unknown),
	}
}

// portIn is a port of the address, beyond those of clientOf, that puts its
// packets to port 80 into the bucket.
func portIn(addr netip.Addr, b hashmode.Bucket) netip.AddrPort {
	for port := uint16(3000); ; port++ {
		if client := netip.AddrPortFrom(addr, port); ownAll().Hash.Bucket(client, 80) == b {
			return client
		}
	}
}
