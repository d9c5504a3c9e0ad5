package coordinator

import (
	"time"

	"earshot/hashmode"
	"earshot/nft"
	"earshot/raftstore"
)

// partingLook is the time between two looks at packets that are still to be
// decided about before a bucket is closed.
const partingLook = 5 * time.Millisecond

// parting finds buckets that are not to be closed yet, though their new owner is
// there: packets wait here, of flows that a former owner is being asked about,
// which came before it was and which it has not heard. Some of them may still be
// on their way from the kernel: a busy agent reads its queue late. No packet
// waits longer than holdLimit, so neither does this.
type parting struct {
	// held is the first packet without a verdict, by bucket.
	held func() map[string]map[hashmode.Bucket]nft.HeldID
	// queued is Kernel.Queued.
	queued  func() (last, judged nft.HeldID)
	arrived map[string]map[hashmode.Bucket]arrival
	waits   bool // for some bucket
}

// arrival is when a new owner was first known to be there.
type arrival struct {
	at   time.Time
	last nft.HeldID // the newest packet then: the new owner has not heard this one
}

// look returns those buckets.
func (p *parting) look(st *raftstore.State, node string, l levels, o opened, now time.Time) map[string]hashmode.Set {
	all, busy := map[string]map[hashmode.Bucket]arrival{}, map[string]hashmode.Set{}
	p.waits = false
	var oldest map[string]map[hashmode.Bucket]nft.HeldID
	var last, judged nft.HeldID
	for name, v := range st.Services {
		all[name] = map[hashmode.Bucket]arrival{}
		var set hashmode.Set
		for b := range o.heard(v).All() {
			if int(b) >= len(v.Map) || v.Map[b].Owner == node || !l.ready(v.Map[b]) {
				continue
			}
			if oldest == nil {
				// In this order: what is judged meanwhile has a verdict, or is held.
				last, judged = p.queued()
				oldest = p.held()
			}
			a, known := p.arrived[name][b]
			if !known {
				a = arrival{now, last}
			}
			all[name][b] = a
			first, waits := oldest[name][b]
			if now.Sub(a.at) < holdLimit && (judged < a.last || waits && first <= a.last) {
				set.Add(b)
				p.waits = true
			}
		}
		busy[name] = set
	}
	p.arrived = all
	return busy
}
