package coordinator

import (
	"cmp"
	"maps"
	"slices"

	"earshot/hashmode"
	"earshot/raftstore"
)

// takersOf are the nodes that are given buckets of a service: of those that
// serve, the ones with a weight that are not held; without any, the held ones,
// since no bucket waits for a node to prove itself; and last resorts in the
// same order only where nobody with a weight serves.
func takersOf(st *raftstore.State, nodes []string) []string {
	for _, fits := range []func(raftstore.Node) bool{
		func(n raftstore.Node) bool { return n.Weight > 0 && !n.Held },
		func(n raftstore.Node) bool { return n.Weight > 0 },
		func(n raftstore.Node) bool { return !n.Held },
	} {
		takers := slices.DeleteFunc(slices.Clone(nodes), func(name string) bool { return !fits(st.Nodes[name]) })
		if len(takers) > 0 {
			return takers
		}
	}
	return nodes
}

// targets is how many buckets each node shall have of the pool. Nodes that are
// given none keep what was pinned to them; held ones also what they have got,
// up to an even share, so that nothing moves twice while they prove themselves.
func (d *deal) targets(pool int, pinned map[string]int) map[string]int {
	sharers, given := slices.Clone(d.takers), map[string]int{}
	most := map[string]int{}
	last := d.weight(d.takers[0]) == 0
	for _, name := range d.nodes {
		switch {
		case slices.Contains(d.takers, name):
		case d.have[name] > 0 && (d.weight(name) == 0) == last:
			sharers, most[name] = append(sharers, name), d.have[name]
		default:
			given[name] = pinned[name]
			pool -= pinned[name]
		}
	}
	slices.Sort(sharers)
	if kept := d.kept(pool, sharers); kept != nil {
		maps.Copy(kept, given)
		return kept
	}
	target := shares(pool, sharers, d.weight, d.tilt(), d.have, pinned, most)
	maps.Copy(target, given)
	return target
}

// kept are the shares that the load has made, if the nodes that share the
// buckets and their weights are still those.
func (d *deal) kept(pool int, sharers []string) map[string]int {
	shares := d.service.Shares
	if d.service.Balance != raftstore.BalanceLoad || len(shares) != len(sharers) {
		return nil
	}
	target := map[string]int{}
	for _, n := range sharers {
		if share, known := shares[n]; !known || share.Weight != d.weight(n) {
			return nil
		}
		target[n] = shares[n].Buckets
		pool -= target[n]
	}
	if pool != 0 {
		return nil
	}
	return target
}

// tilt is how many buckets nodes are to have beyond an even share, because
// they had when the load last moved one. It is not exact: a bucket more or less
// does not move anything then.
func (d *deal) tilt() map[string]int {
	if d.service.Balance != raftstore.BalanceLoad || len(d.service.Shares) == 0 {
		return nil
	}
	d.slack = 1
	buckets, weight := 0, 0
	for _, share := range d.service.Shares {
		buckets, weight = buckets+share.Buckets, weight+max(share.Weight, 1)
	}
	tilt := map[string]int{}
	for n, share := range d.service.Shares {
		tilt[n] = share.Buckets - buckets*max(share.Weight, 1)/weight
	}
	return tilt
}

// claimed gives each taker the buckets that its file would have it have, as
// far as its share goes: those that it has first. A preference says which
// buckets a node has, not how many; of two nodes with the same one, the first
// by name is heeded.
func (d *deal) claimed(pinned map[string]int) map[hashmode.Bucket]string {
	claims := map[hashmode.Bucket]string{}
	for _, name := range d.takers {
		text := d.state.Nodes[name].Prefer[d.service.Name]
		if text == "" {
			continue
		}
		set, err := hashmode.ParseSet(text, hashmode.MaxBuckets)
		if err != nil {
			continue // its own status says so
		}
		left := d.target[name] - pinned[name]
		for _, mine := range []bool{true, false} {
			for b := range set.All() {
				if left <= 0 || int(b) >= len(d.service.Map) {
					break
				}
				if claims[b] == "" && d.pinOf(b) == "" && !d.fixed(b) && (d.ownerOf(b) == name) == mine {
					claims[b] = name
					left--
				}
			}
		}
	}
	return claims
}

// shares returns how many of the buckets each node shall have: its part by
// weight, rounded down, and one more for those that have most already, so
// that rounding moves nothing. A node with more pinned buckets than its part
// keeps them, one of which most says so gets no more than that, one that is
// tilted has so many more or fewer, and the others share the rest.
func shares(buckets int, nodes []string, weight func(string) int, tilt, have, pinned, most map[string]int) map[string]int {
	target := map[string]int{}
	open := slices.Clone(nodes)
	for {
		total := 0
		for _, n := range open {
			total += weight(n)
		}
		w := weight
		if total == 0 { // only last resorts are left
			w, total = func(string) int { return 1 }, len(open)
		}
		even := buckets
		for _, n := range open {
			even -= tilt[n]
		}
		part := func(n string) int { return floorDiv(even*w(n), total) + tilt[n] }
		out := slices.IndexFunc(open, func(n string) bool { return pinned[n] > part(n)+1 })
		bound := pinned
		if out < 0 {
			out = slices.IndexFunc(open, func(n string) bool { m, limited := most[n]; return limited && m <= part(n) })
			bound = most
		}
		if out < 0 {
			out = slices.IndexFunc(open, func(n string) bool { return part(n) < 0 })
			bound = nil
		}
		if out < 0 || len(open) == 1 {
			dealRest(target, even, total, open, w, func(n string) int { return have[n] - tilt[n] })
			for _, n := range open {
				target[n] += tilt[n]
			}
			return target
		}
		n := open[out]
		target[n] = bound[n]
		buckets -= target[n]
		open = slices.Delete(open, out, out+1)
	}
}

// floorDiv divides and rounds down, below zero, too: with more tilt than
// buckets there is less than nothing to share.
func floorDiv(a, b int) int {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// dealRest gives each open node its part and deals what rounding left over to
// those whose part was rounded.
func dealRest(target map[string]int, buckets, total int, open []string, weight, have func(string) int) {
	left := buckets
	var rounded []string
	for _, n := range open {
		target[n] = floorDiv(buckets*weight(n), total)
		left -= target[n]
		if buckets*weight(n)%total != 0 {
			rounded = append(rounded, n)
		}
	}
	slices.SortStableFunc(rounded, func(a, b string) int {
		return cmp.Compare(have(b)-target[b], have(a)-target[a])
	})
	for _, n := range rounded[:left] {
		target[n]++
	}
}
