package nft

import "github.com/google/nftables"

// The lease is an element with a timeout in a set of each table. There are
// two such sets, slots a and b, and rules look at the one that is selected: a
// renewal fills the other one, looks at the clock, and only then selects it
// (rule P8, DESIGN.md). The elements are the protocols that pass through the
// table, so that "meta protocol @lease_a" asks whether the set is filled.

// A slot is one of the two leases.
type slot int

const (
	slotA slot = iota
	slotB
)

func (s slot) other() slot { return 1 - s }

// lease is the set with the timeouts, selected the one that chooses the slot.
func (s slot) lease() string { return [...]string{"lease_a", "lease_b"}[s] }

func (s slot) selected() string { return [...]string{"slot_a", "slot_b"}[s] }

// protocols are the elements of a table's lease sets, in wire order.
func protocols(f nftables.TableFamily) [][]byte {
	if f == arpFamily {
		return [][]byte{{0x08, 0x06}}
	}
	return [][]byte{{0x08, 0x00}, {0x86, 0xdd}}
}

func leaseSets() []set {
	var sets []set
	for _, s := range []slot{slotA, slotB} {
		sets = append(sets,
			set{name: s.lease(), key: nftables.TypeEtherType, timeout: true},
			set{name: s.selected(), key: nftables.TypeEtherType})
	}
	return sets
}

// leaseChain returns to the caller under a valid lease, and drops else. A
// renewal from b to a between the first two rules would leave a packet without
// either, so a is looked at twice (DESIGN.md, "Between two look-ups").
func leaseChain() chain {
	pass := func(s slot) rule { return when(protocolIn(s.selected()), protocolIn(s.lease()), back()) }
	return chain{name: chainLease, rules: []rule{
		pass(slotA),
		pass(slotB),
		pass(slotA),
		dropped("no lease"),
	}}
}
