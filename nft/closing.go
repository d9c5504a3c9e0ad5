package nft

import (
	"strings"

	"earshot/hashmode"
)

const closingSuffix = "_closing"

// setClosing has the buckets that this node has just given away. The SYN-ACKs of
// SYNs that came in before still leave; Barrier ends that.
func setClosing(service string) string { return service + closingSuffix }

// closeAfter adds the buckets that drain now and were open before, or were just
// being closed. A SYN may be between the rules that let it in and those that let
// its SYN-ACK out when the sets change. Dropped there, its client would wait for
// a second: the flow is known here, so nobody else answers it.
func (c contents) closeAfter(before contents, services []Service) {
	for _, s := range services {
		var open hashmode.Set
		for _, name := range []string{setOwn(s.Name), setInherit(s.Name), setTake(s.Name), setClosing(s.Name)} {
			open = open.Union(before.buckets[setID{inet, name}])
		}
		c.buckets[setID{inet, setClosing(s.Name)}] = s.Drain.Intersect(open)
	}
}

// closing are the buckets that are being closed, by set.
func (c contents) closing() map[setID]hashmode.Set {
	all := map[setID]hashmode.Set{}
	for id, buckets := range c.buckets {
		if strings.HasSuffix(id.name, closingSuffix) && !buckets.Empty() {
			all[id] = buckets
		}
	}
	return all
}
