package nft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"

	"earshot/hashmode"
)

// families of our tables.
func families() []nftables.TableFamily {
	return []nftables.TableFamily{netdev, inet, arpFamily}
}

func tableOf(f nftables.TableFamily) *nftables.Table {
	return &nftables.Table{Name: TableName, Family: f}
}

// kernel is what the kernel holds under our name.
type kernel struct {
	tables   map[nftables.TableFamily]kernelTable
	contents contents
	former   settings
}

type kernelTable struct {
	dormant bool
	sets    map[string]*nftables.Set
	fixed   map[string][][]byte // elements of sets that never change
	chains  map[string]kernelChain
}

type kernelChain struct {
	chain *nftables.Chain
	rules []*nftables.Rule
}

// readKernel reads all that our tables hold, apart from the leases.
func readKernel(c *nftables.Conn) (kernel, error) {
	k := kernel{
		tables:   map[nftables.TableFamily]kernelTable{},
		contents: contents{shared: map[netip.Addr]place{}, buckets: map[setID]hashmode.Set{}},
		former:   settings{},
	}
	tables, err := listOurs(c)
	if err != nil {
		return k, err
	}
	for _, t := range tables {
		if err := k.readTable(c, t); err != nil {
			return k, err
		}
	}
	return k, nil
}

// listOurs lists those of our tables that exist.
func listOurs(c *nftables.Conn) ([]*nftables.Table, error) {
	all, err := c.ListTables()
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	return slices.DeleteFunc(all, func(t *nftables.Table) bool {
		return t.Name != TableName || !slices.Contains(families(), t.Family)
	}), nil
}

// ourTables lists their families.
func ourTables(c *nftables.Conn) ([]nftables.TableFamily, error) {
	tables, err := listOurs(c)
	var ours []nftables.TableFamily
	for _, t := range tables {
		ours = append(ours, t.Family)
	}
	return ours, err
}

func (k *kernel) readTable(c *nftables.Conn, t *nftables.Table) error {
	kt := kernelTable{dormant: t.Flags != 0, sets: map[string]*nftables.Set{}, fixed: map[string][][]byte{}, chains: map[string]kernelChain{}}
	sets, err := c.GetSets(t)
	if err != nil {
		return fmt.Errorf("read sets: %w", err)
	}
	for _, s := range sets {
		kt.sets[s.Name] = s
		if err := k.readSet(c, kt, t, s); err != nil {
			return fmt.Errorf("read set %s: %w", s.Name, err)
		}
	}
	chains, err := c.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return fmt.Errorf("read chains: %w", err)
	}
	for _, ch := range chains {
		if ch.Table.Name != TableName {
			continue
		}
		rules, err := c.GetRules(t, ch)
		if err != nil {
			return fmt.Errorf("read chain %s: %w", ch.Name, err)
		}
		kt.chains[ch.Name] = kernelChain{ch, rules}
	}
	k.tables[t.Family] = kt
	return nil
}

func (k *kernel) readSet(c *nftables.Conn, kt kernelTable, t *nftables.Table, s *nftables.Set) error {
	if s.HasTimeout || s.Anonymous || s.Name == slotA.selected() || s.Name == slotB.selected() {
		return nil
	}
	elements, err := c.GetSetElements(s)
	if err != nil {
		return err
	}
	switch {
	case s.Name == setHeld:
		for _, e := range elements {
			if index, ok := heldIndex(e.Key); ok {
				k.contents.held, k.contents.hasHeld = max(k.contents.held, index), true
			}
		}
	case s.Name == setShared || s.Name == setShared6:
		for _, e := range elements {
			addr, okAddr := netip.AddrFromSlice(e.Key)
			where, err := parsePlace(e.Comment)
			if okAddr && err == nil {
				k.contents.shared[addr] = where
			}
		}
	case s.Name == setFormer:
		for _, e := range elements {
			if ifname, was, ok := parseSetting(e); ok {
				k.former[ifname] = was
			}
		}
	case isFixed(s.Name):
		for _, e := range elements {
			kt.fixed[s.Name] = append(kt.fixed[s.Name], e.Key)
		}
	default:
		var buckets hashmode.Set
		for _, e := range elements {
			if len(e.Key) == 4 && binary.NativeEndian.Uint32(e.Key) < hashmode.MaxBuckets {
				buckets.Add(hashmode.Bucket(binary.NativeEndian.Uint32(e.Key)))
			}
		}
		k.contents.buckets[setID{t.Family, s.Name}] = buckets
	}
	return nil
}

// has reports whether the kernel's structure is the plan's, rule by rule.
func (k kernel) has(p plan) bool {
	for _, t := range p.tables {
		kt, ok := k.tables[t.family]
		if !ok || kt.dormant || len(kt.sets) != len(t.sets) || len(kt.chains) != len(t.chains) {
			return false
		}
		for _, s := range t.sets {
			if !kt.hasSet(s) {
				return false
			}
		}
		for _, ch := range t.chains {
			if !kt.hasChain(ch) || !kt.hasRules(t.family, ch) {
				return false
			}
		}
	}
	return true
}

func (kt kernelTable) hasSet(s set) bool {
	got, ok := kt.sets[s.name]
	if !ok || got.KeyType.GetNFTMagic() != s.key.GetNFTMagic() || got.HasTimeout != s.timeout ||
		got.IsMap || got.Interval || got.Dynamic || int(got.Size) != s.size {
		return false
	}
	fixed := kt.fixed[s.name]
	if len(fixed) != len(s.fixed) {
		return false
	}
	for _, key := range s.fixed {
		if !containsKey(fixed, key) {
			return false
		}
	}
	return true
}

func containsKey(keys [][]byte, key []byte) bool {
	for _, k := range keys {
		if bytes.Equal(k, key) {
			return true
		}
	}
	return false
}

// hasChain compares the chain without its rules.
func (kt kernelTable) hasChain(ch chain) bool {
	got, ok := kt.chains[ch.name]
	if !ok || (got.chain.Hooknum != nil) != (ch.hook != nil) {
		return false
	}
	return ch.hook == nil ||
		*got.chain.Hooknum == ch.hook.num && *got.chain.Priority == ch.hook.priority &&
			got.chain.Policy != nil && *got.chain.Policy == nftables.ChainPolicyAccept
}

func (kt kernelTable) hasRules(f nftables.TableFamily, ch chain) bool {
	got := kt.chains[ch.name].rules
	if len(got) != len(ch.rules) {
		return false
	}
	for i, r := range ch.rules {
		want, err1 := canonical(f, r.exprs())
		have, err2 := canonical(f, got[i].Exprs)
		comment, _ := userdata.GetString(got[i].UserData, userdata.TypeComment)
		if errors.Join(err1, err2) != nil || !bytes.Equal(want, have) || comment != r.comment {
			return false
		}
	}
	return true
}

// canonical encodes expressions without what the kernel fills in.
func canonical(f nftables.TableFamily, exprs []expr.Any) ([]byte, error) {
	var all []byte
	for _, e := range exprs {
		switch v := e.(type) {
		case *expr.Counter:
			e = &expr.Counter{}
		case *expr.Lookup:
			named := *v
			named.SetID = 0
			e = &named
		}
		b, err := expr.Marshal(byte(f), e)
		if err != nil {
			return nil, err
		}
		all = append(all, b...)
	}
	return all, nil
}

// anonymous reports whether a set belongs to a rule.
func anonymous(s *nftables.Set) bool { return s.Anonymous || strings.HasPrefix(s.Name, "__") }
