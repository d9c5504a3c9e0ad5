package nft

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/userdata"

	"earshot/hashmode"
)

// build writes what turns the kernel's tables into the plan's. It leaves the
// elements of sets that stay, and so the leases, in place.
func build(c *nftables.Conn, k kernel, p plan) error {
	ids := uint32(0)
	for _, t := range p.tables {
		kt, exists := k.tables[t.family]
		c.AddTable(tableOf(t.family))
		if exists {
			clear(c, kt, t)
		}
		for _, s := range t.sets {
			if exists && kt.hasSet(s) {
				continue
			}
			ids++
			if err := addSet(c, tableOf(t.family), s, ids); err != nil {
				return fmt.Errorf("add set %s: %w", s.name, err)
			}
			delete(k.contents.buckets, setID{t.family, s.name})
			switch s.name {
			case setHeld:
				k.contents.hasHeld = false
			case setFormer:
				maps.DeleteFunc(k.former, func(string, int) bool { return true })
			case setShared, setShared6:
				maps.DeleteFunc(k.contents.shared, func(a netip.Addr, _ place) bool { return setSharedOf(a.Is6()) == s.name })
			}
		}
		for _, ch := range t.chains {
			if !exists || !kt.hasChain(ch) {
				addChain(c, tableOf(t.family), ch)
			}
		}
		for _, ch := range t.chains {
			for _, r := range ch.rules {
				addRule(c, tableOf(t.family), ch, r)
			}
		}
	}
	return fill(c, k.contents, p.contents)
}

// refill does the same where the structure stands.
func refill(c *nftables.Conn, k kernel, p plan) error { return fill(c, k.contents, p.contents) }

// clear writes the removal of all rules and of what the plan does not have.
func clear(c *nftables.Conn, kt kernelTable, t table) {
	c.FlushTable(tableOf(t.family))
	wantChain, wantSet := map[string]bool{}, map[string]bool{}
	for _, ch := range t.chains {
		wantChain[ch.name] = kt.hasChain(ch)
	}
	for _, s := range t.sets {
		wantSet[s.name] = kt.hasSet(s)
	}
	for name, ch := range kt.chains {
		if !wantChain[name] {
			c.DelChain(&nftables.Chain{Name: ch.chain.Name, Table: tableOf(t.family)})
		}
	}
	for name, s := range kt.sets {
		if !wantSet[name] && !anonymous(s) {
			c.DelSet(&nftables.Set{Name: s.Name, Table: tableOf(t.family)})
		}
	}
}

func addSet(c *nftables.Conn, t *nftables.Table, s set, id uint32) error {
	order := binaryutil.BigEndian
	if s.key.Name == nftables.TypeMark.Name {
		order = binaryutil.NativeEndian
	}
	var elements []nftables.SetElement
	for _, key := range s.fixed {
		elements = append(elements, nftables.SetElement{Key: key})
	}
	return c.AddSet(&nftables.Set{
		Table: t, ID: id, Name: s.name, KeyType: s.key, HasTimeout: s.timeout,
		Concatenation: strings.Contains(s.key.Name, " . "), Size: uint32(s.size), KeyByteOrder: order, Counter: s.counter,
	}, elements)
}

func addChain(c *nftables.Conn, t *nftables.Table, ch chain) {
	n := &nftables.Chain{Name: ch.name, Table: t}
	if ch.hook != nil {
		policy := nftables.ChainPolicyAccept
		n.Type, n.Hooknum, n.Priority, n.Policy, n.Device = nftables.ChainTypeFilter, &ch.hook.num, &ch.hook.priority, &policy, ch.hook.device
	}
	c.AddChain(n)
}

func addRule(c *nftables.Conn, t *nftables.Table, ch chain, r rule) {
	n := &nftables.Rule{Table: t, Chain: &nftables.Chain{Name: ch.name}, Exprs: r.exprs()}
	if r.comment != "" {
		n.UserData = userdata.AppendString(nil, userdata.TypeComment, r.comment)
	}
	c.AddRule(n)
}

// fill writes the difference between what the sets hold and what they are to
// hold. Of what is in no set of the plan it writes nothing: that set goes.
func fill(c *nftables.Conn, have, want contents) error {
	for id, buckets := range want.buckets {
		s := &nftables.Set{Table: tableOf(id.family), Name: id.name, KeyType: nftables.TypeMark}
		held := have.buckets[id]
		if err := eachMessage(held.Minus(buckets), func(e []nftables.SetElement) error { return c.SetDeleteElements(s, e) }); err != nil {
			return err
		}
		if err := eachMessage(buckets.Minus(held), func(e []nftables.SetElement) error { return c.SetAddElements(s, e) }); err != nil {
			return err
		}
	}
	for _, v6 := range []bool{false, true} {
		if err := fillShared(c, have, want, v6); err != nil {
			return err
		}
	}
	if want.hasHeld && (!have.hasHeld || have.held != want.held) {
		s := &nftables.Set{Table: tableOf(inet), Name: setHeld}
		c.FlushSet(s)
		return c.SetAddElements(s, []nftables.SetElement{{Key: heldKey(want.held), Comment: fmt.Sprintf("map %d", want.held)}})
	}
	return nil
}

func fillShared(c *nftables.Conn, have, want contents, v6 bool) error {
	s := &nftables.Set{Table: tableOf(inet), Name: setSharedOf(v6)}
	var gone, added []nftables.SetElement
	for addr, where := range have.shared {
		if now, ok := want.shared[addr]; addr.Is6() == v6 && (!ok || now.String() != where.String()) {
			gone = append(gone, nftables.SetElement{Key: addr.AsSlice()})
		}
	}
	for addr, where := range want.shared {
		if was, ok := have.shared[addr]; addr.Is6() == v6 && (!ok || was.String() != where.String()) {
			added = append(added, nftables.SetElement{Key: addr.AsSlice(), Comment: where.String()})
		}
	}
	if len(gone) > 0 {
		if err := c.SetDeleteElements(s, gone); err != nil {
			return err
		}
	}
	if len(added) > 0 {
		return c.SetAddElements(s, added)
	}
	return nil
}

// perMessage is how many elements go into one message of a transaction: an
// attribute's length has 16 bits, and an element takes 16 bytes.
const perMessage = 2000

func eachMessage(buckets hashmode.Set, write func([]nftables.SetElement) error) error {
	var elements []nftables.SetElement
	for b := range buckets.All() {
		elements = append(elements, nftables.SetElement{Key: bucketKey(b)})
		if len(elements) == perMessage {
			if err := write(elements); err != nil {
				return err
			}
			elements = nil
		}
	}
	if len(elements) > 0 {
		return write(elements)
	}
	return nil
}
