package nft

// Queue tells by which means this kernel can hold packets.
func (p *Plane) Queue() Queue { return p.queue }

// findQueue tries nf_tables' own queue first: nft lists it in full.
func (p *Plane) findQueue() Queue {
	if !p.ns.queuesServed() {
		return QueueNone
	}
	for _, q := range []Queue{QueueExpression, QueueTarget} {
		if p.tryFeature(queueFeature(q)) == nil {
			return q
		}
	}
	return QueueNone
}

// queueFeature is one means to hold packets.
func queueFeature(q Queue) feature {
	needs := map[Queue]string{
		QueueExpression: "CONFIG_NFT_QUEUE with CONFIG_NETFILTER_NETLINK_QUEUE",
		QueueTarget:     "CONFIG_NFT_COMPAT and CONFIG_NETFILTER_XT_TARGET_NFQUEUE",
	}
	return feature{q.String(), needs[q], tryRules(inet, nil, chain{name: "test", rules: []rule{when(more(HoldRate), drop()), when(hold(q))}})}
}
