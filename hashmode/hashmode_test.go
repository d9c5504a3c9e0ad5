package hashmode

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestBucketVectors pins the hash: nodes of different versions must agree.
// That the kernel computes the same is shown in package nft, in the kernel.
func TestBucketVectors(t *testing.T) {
	for _, tc := range []struct {
		client string
		mode   Mode
		want   Bucket
	}{
		{"192.0.2.7:4711", SourceNet, 980},
		{"192.0.2.250:80", SourceNet, 980},
		{"[2001:db8::7]:4711", SourceNet, 719},
		{"[2001:db8:0:f0::9]:80", SourceNet, 719},
		{"192.0.2.7:4711", SourceIP, 67},
		{"192.0.2.7:4711", SourceIPSourcePort, 602},
		{"192.0.2.7:4711", SourceIPSourcePortDestPort, 707},
		{"[2001:db8::7]:4711", SourceIP, 361},
		{"[2001:db8::7]:4711", SourceIPSourcePort, 592},
		{"[2001:db8::7]:4711", SourceIPSourcePortDestPort, 196},
		{"[::ffff:192.0.2.7]:4711", SourceIP, 67},
	} {
		spec := Spec{Mode: tc.mode, Buckets: 1024, Seed: 305419896}
		if tc.mode == SourceNet {
			spec.Prefix = DefaultPrefix(strings.Contains(tc.client, "db8"))
		}
		if got := spec.Bucket(netip.MustParseAddrPort(tc.client), 443); got != tc.want {
			t.Errorf("%s of %s: bucket %d, want %d", tc.mode, tc.client, got, tc.want)
		}
	}
}

func TestBucketIsBelowTheirNumberAndHeedsOnlyWhatTheModeNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		addr := netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address")))
		port := rapid.Uint16()
		spec := Spec{
			Mode: rapid.SampledFrom(Modes()).Draw(t, "mode"), Seed: rapid.Uint32().Draw(t, "seed"),
			Buckets: rapid.IntRange(1, MaxBuckets).Draw(t, "buckets"),
		}
		if spec.Mode == SourceNet {
			spec.Prefix = rapid.IntRange(1, 40).Draw(t, "prefix")
		}
		sport, dport := port.Draw(t, "sport"), port.Draw(t, "dport")
		b := spec.Bucket(netip.AddrPortFrom(addr, sport), dport)
		if int(b) >= spec.Buckets {
			t.Fatalf("bucket %d of %d", b, spec.Buckets)
		}
		if !spec.Mode.SourcePort() {
			sport = port.Draw(t, "another sport")
		}
		if !spec.Mode.DestPort() {
			dport = port.Draw(t, "another dport")
		}
		if again := spec.Bucket(netip.AddrPortFrom(addr, sport), dport); again != b {
			t.Fatalf("a port that the mode does not name moves bucket %d to %d", b, again)
		}
		if only := spec.SourceOnly().Bucket(netip.AddrPortFrom(addr, 0), 0); (spec.Mode == SourceIP || spec.Mode == SourceNet) && only != b {
			t.Fatalf("by the source alone bucket %d, in %s mode %d", only, spec.Mode, b)
		}
		if spec.Mode != SourceNet {
			return
		}
		neighbour := addr.As4()
		for i := min(spec.Prefix, 32); i < 32; i++ {
			neighbour[i/8] ^= 0x80 >> (i % 8)
		}
		if other := spec.Bucket(netip.AddrPortFrom(netip.AddrFrom4(neighbour), sport), dport); other != b {
			t.Fatalf("%v and %v, of one network, have buckets %d and %d", addr, netip.AddrFrom4(neighbour), b, other)
		}
	})
}

func TestSpecRefusesImpossibleNumbers(t *testing.T) {
	for _, n := range []int{-1, 0, MaxBuckets + 1} {
		if err := (Spec{Mode: SourceIP, Buckets: n}).Validate(); err == nil {
			t.Errorf("%d buckets are accepted", n)
		}
	}
	for _, s := range []Spec{{Mode: SourceNet}, {Mode: SourceNet, Prefix: 129}, {Mode: SourceIP, Prefix: 24}} {
		s.Buckets = 8
		if err := s.Validate(); err == nil {
			t.Errorf("mode %s takes prefix %d", s.Mode, s.Prefix)
		}
	}
	if err := (Spec{Mode: "sourcemac", Buckets: 8}).Validate(); !errors.Is(err, ErrMode) {
		t.Errorf("unknown mode: %v", err)
	}
}
