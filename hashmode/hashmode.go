// Package hashmode says which bucket a packet belongs to, bit for bit as
// the nftables rules of package nft have the kernel compute it.
//
// Be aware:
//   - The kernel hashes the packet's fields as they stand on the wire, each
//     padded with zero bytes to a multiple of four (nft's register layout).
//   - nft's "mod" is no remainder: it scales, (hash × buckets) >> 32.
//   - Keys longer than twelve bytes (IPv6) are read in the machine's byte
//     order by the kernel, so all nodes of a cluster need the same one.
package hashmode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// MaxBuckets is the largest number of buckets that a service can have.
const MaxBuckets = 65536

// Mode names the fields of a packet that choose its bucket. The names are
// those of CLUSTERIP's --hashmode, and one more.
type Mode string

// The hash modes.
const (
	// SourceNet keeps all flows of a client's network on one node.
	SourceNet Mode = "sourcenet"
	// SourceIP keeps all of a client's flows on one node.
	SourceIP Mode = "sourceip"
	// SourceIPSourcePort spreads a client's flows.
	SourceIPSourcePort Mode = "sourceip-sourceport"
	// SourceIPSourcePortDestPort spreads them also by the port that they go to.
	SourceIPSourcePortDestPort Mode = "sourceip-sourceport-destport"
)

// Modes lists every mode, the coarsest first.
func Modes() []Mode {
	return []Mode{SourceNet, SourceIP, SourceIPSourcePort, SourceIPSourcePortDestPort}
}

// ErrMode is wrapped by the error for a name that is no hash mode.
var ErrMode = errors.New("unknown hash mode")

// ParseMode returns the mode of the given name.
func ParseMode(name string) (Mode, error) {
	var names []string
	for _, m := range Modes() {
		if string(m) == name {
			return m, nil
		}
		names = append(names, string(m))
	}
	return "", fmt.Errorf("%w %q (use %s)", ErrMode, name, strings.Join(names, ", "))
}

// SourcePort reports whether the mode hashes the client's port.
func (m Mode) SourcePort() bool { return m == SourceIPSourcePort || m == SourceIPSourcePortDestPort }

// DestPort reports whether the mode hashes the service's port.
func (m Mode) DestPort() bool { return m == SourceIPSourcePortDestPort }

// Spec is everything that the bucket of a packet depends on, apart from the
// packet. Two nodes with equal specs agree on every packet.
type Spec struct {
	Mode    Mode
	Buckets int    // 1 … MaxBuckets
	Seed    uint32 // the hash's initial value
	// Prefix is the length of the clients' networks in mode SourceNet, 0 in
	// every other. One as long as an address leaves the whole address.
	Prefix int
}

// DefaultPrefix is the length of a client's network unless somebody says
// otherwise: what one customer commonly has.
func DefaultPrefix(v6 bool) int {
	if v6 {
		return 56
	}
	return 24
}

// Validate reports what is wrong with the spec, or nil.
func (s Spec) Validate() error {
	if _, err := ParseMode(string(s.Mode)); err != nil {
		return err
	}
	if s.Buckets < 1 || s.Buckets > MaxBuckets {
		return fmt.Errorf("buckets %d out of range (1 to %d)", s.Buckets, MaxBuckets)
	}
	if s.Mode == SourceNet && (s.Prefix < 1 || s.Prefix > 128) {
		return fmt.Errorf("prefix %d out of range (1 to 128)", s.Prefix)
	}
	if s.Mode != SourceNet && s.Prefix != 0 {
		return fmt.Errorf("prefix %d: mode %s has none", s.Prefix, s.Mode)
	}
	return nil
}

// Mask is what is kept of a client's address of n bytes; nil for all of it.
func (s Spec) Mask(n int) []byte {
	if s.Mode != SourceNet || s.Prefix >= 8*n {
		return nil
	}
	mask := make([]byte, n)
	for i := range s.Prefix {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return mask
}

// SourceOnly is the spec for packets that have no ports, or none that the
// service names: the same buckets, chosen by the source address alone, or by
// its network.
func (s Spec) SourceOnly() Spec {
	if s.Mode != SourceNet {
		s.Mode = SourceIP
	}
	return s
}

// Bucket returns the bucket of a packet from src to destination port dport.
// Ports that the mode does not name are ignored.
func (s Spec) Bucket(src netip.AddrPort, dport uint16) Bucket {
	var buf [24]byte
	key := append(buf[:0], src.Addr().Unmap().AsSlice()...)
	for i, m := range s.Mask(len(key)) {
		key[i] &= m
	}
	if s.Mode.SourcePort() {
		key = appendPort(key, src.Port())
	}
	if s.Mode.DestPort() {
		key = appendPort(key, dport)
	}
	return Bucket(uint64(jhash(key, s.Seed)) * uint64(s.Buckets) >> 32)
}

// appendPort appends a port in wire order, padded to a 32-bit register.
func appendPort(key []byte, port uint16) []byte {
	key = binary.BigEndian.AppendUint16(key, port)
	return append(key, 0, 0)
}
