package nft

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"earshot/hashmode"
	"earshot/nft/nfttest"
)

// The kernel is asked with the very clause that the rules use: at netdev
// ingress it stores, for each packet, the bucket beside the client.
func TestKernelHashesLikeHashmode(t *testing.T) {
	for _, mode := range hashmode.Modes() {
		for _, v6 := range []bool{false, true} {
			for _, n := range []int{1, 7, 1024, hashmode.MaxBuckets} {
				t.Run(fmt.Sprintf("%s/v6=%v/%d", mode, v6, n), func(t *testing.T) {
					spec := hashmode.Spec{Mode: mode, Buckets: n, Seed: rand.Uint32() | 1}
					if mode == hashmode.SourceNet {
						spec.Prefix = hashmode.DefaultPrefix(v6)
					}
					compareHash(t, spec, v6)
				})
			}
		}
	}
}

// Networks that end within a byte, one of all addresses but for a bit, and
// one of a single address.
func TestKernelMasksLikeHashmode(t *testing.T) {
	for v6, prefixes := range map[bool][]int{false: {1, 19, 32}, true: {1, 61, 128}} {
		for _, prefix := range prefixes {
			t.Run(fmt.Sprintf("v6=%v/%d", v6, prefix), func(t *testing.T) {
				compareHash(t, hashmode.Spec{Mode: hashmode.SourceNet, Buckets: 1024, Seed: rand.Uint32() | 1, Prefix: prefix}, v6)
			})
		}
	}
}

func compareHash(t *testing.T, spec hashmode.Spec, v6 bool) {
	const packets = 1500
	w := newWorld(t)
	seen := storeBuckets(t, w, spec, v6)
	want := map[string]hashmode.Bucket{}
	send := w.sender()
	for range packets {
		p := nfttest.Packet{From: randomClient(v6), To: netip.AddrPortFrom(randomClient(v6).Addr(), uint16(rand.Uint32())), Protocol: nfttest.UDP}
		if rand.IntN(2) == 0 {
			p.Protocol = nfttest.TCP
		}
		want[fmt.Sprint(p.From, p.To.Port())] = spec.Bucket(p.From, p.To.Port())
		send(p)
	}
	var got map[string]hashmode.Bucket
	eventually(t, "every packet stored", func() bool {
		got = seen()
		return len(got) >= len(want)
	})
	for client, bucket := range want {
		if got[client] != bucket {
			t.Errorf("client %s: kernel %d, hashmode %d", client, got[client], bucket)
		}
	}
}

func randomClient(v6 bool) netip.AddrPort {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], rand.Uint64())
	binary.BigEndian.PutUint64(b[8:], rand.Uint64())
	b[0] = 0x20 | b[0]&0x0f
	if v6 {
		return netip.AddrPortFrom(netip.AddrFrom16(b), uint16(rand.Uint32()))
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[:4])), uint16(rand.Uint32()))
}

// storeBuckets has the node store (bucket, client, port, destination port)
// of what comes in; what it returns reads that.
func storeBuckets(t *testing.T, w *world, spec hashmode.Spec, v6 bool) func() map[string]hashmode.Bucket {
	table := &nftables.Table{Name: "hashtest", Family: netdev}
	length, protocol, offset := uint32(4), []byte{0x08, 0x00}, uint32(12)
	if v6 {
		length, protocol, offset = 16, []byte{0x86, 0xdd}, 8
	}
	key := nftables.SetDatatype{Name: "integer", Bytes: 12 + length}
	key.SetNFTMagic(nftables.TypeInteger.GetNFTMagic())
	set := &nftables.Set{ID: 1, Table: table, Name: "seen", KeyType: key, Dynamic: true, Size: 65535}
	network, transport := expr.PayloadBaseNetworkHeader, expr.PayloadBaseTransportHeader
	exprs := append([]expr.Any{&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: reg}, equal(protocol...)},
		bucketHash(spec, inbound(), v6).exprs...)
	exprs = append(exprs,
		&expr.Payload{DestRegister: word(1), Base: network, Offset: offset, Len: length},
		&expr.Payload{DestRegister: word(1 + length/4), Base: transport, Offset: 0, Len: 2},
		&expr.Payload{DestRegister: word(2 + length/4), Base: transport, Offset: 2, Len: 2},
		&expr.Dynset{SrcRegKey: reg, SetName: "seen", Operation: 0})
	var c *nftables.Conn
	w.node.Do(func() {
		var err error
		c, err = nftables.New(nftables.AsLasting())
		must(t, err)
		c.AddTable(table)
		must(t, c.AddSet(set, nil))
		ch := chain{name: "ingress", hook: &hook{num: *nftables.ChainHookIngress, device: "eth1"}}
		addChain(c, table, ch)
		c.AddRule(&nftables.Rule{Table: table, Chain: &nftables.Chain{Name: "ingress"}, Exprs: exprs})
		must(t, c.Flush())
	})
	t.Cleanup(func() { must(t, c.CloseLasting()) })
	return func() map[string]hashmode.Bucket {
		elements, err := c.GetSetElements(set)
		must(t, err)
		got := map[string]hashmode.Bucket{}
		for _, e := range elements {
			addr, _ := netip.AddrFromSlice(e.Key[4 : 4+length])
			client := netip.AddrPortFrom(addr, binary.BigEndian.Uint16(e.Key[4+length:]))
			got[fmt.Sprint(client, binary.BigEndian.Uint16(e.Key[8+length:]))] = hashmode.Bucket(binary.NativeEndian.Uint32(e.Key))
		}
		return got
	}
}
