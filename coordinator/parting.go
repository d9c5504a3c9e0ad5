package coordinator

import (
	"time"

	"earshot/hashmode"
	"earshot/raftstore"
)

// partingLook is the time between two looks at packets that are still to be
// decided about before a bucket is closed.
const partingLook = 5 * time.Millisecond

// parting finds buckets that are not to be closed yet, though their new owner is
// there: packets wait here, of flows that a former owner is being asked about,
// which came before it was and which it has not heard. No packet waits longer
// than holdLimit, so neither does this.
type parting struct {
	// held is when the first packet without a verdict came, by bucket.
	held    func() map[string]map[hashmode.Bucket]time.Time
	arrived map[string]map[hashmode.Bucket]time.Time // when the new owner was first known to be there
	waits   bool                                     // for some bucket
}

// look returns those buckets.
func (p *parting) look(st *raftstore.State, node string, l levels, o opened, now time.Time) map[string]hashmode.Set {
	oldest := p.held()
	arrived, busy := map[string]map[hashmode.Bucket]time.Time{}, map[string]hashmode.Set{}
	p.waits = false
	for name, v := range st.Services {
		arrived[name] = map[hashmode.Bucket]time.Time{}
		var set hashmode.Set
		for b, came := range oldest[name] {
			if int(b) >= len(v.Map) || o.held < v.Remapped || !o.hears(name, b) {
				continue
			}
			slot := v.Map[b]
			if slot.Owner == node || !l.ready(slot) {
				continue
			}
			at, known := p.arrived[name][b]
			if !known {
				at = now
			}
			arrived[name][b] = at
			if came.Before(at) {
				set.Add(b)
				p.waits = true
			}
		}
		busy[name] = set
	}
	p.arrived = arrived
	return busy
}
