package sim

import (
	"context"
	"maps"
	"time"

	"earshot/hashmode"
	"earshot/nft"
)

// Queue implements coordinator.Kernel.
func (k kernelPort) Queue() nft.Queue { return nft.QueueExpression }

// Hold implements coordinator.Kernel. A process that is stopped reads nothing.
func (k kernelPort) Hold(ctx context.Context, ready func(), judge func([]nft.HeldPacket)) error {
	v := k.node().world.wire
	queue := make(chan nft.HeldPacket, 256)
	v.mu.Lock()
	t := v.table(k.node())
	t.queue, t.waiting, t.judged = queue, map[nft.HeldID]packet{}, t.last
	v.mu.Unlock()
	defer func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		if t.queue == queue {
			t.queue, t.waiting = nil, nil
		}
	}()
	ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case held := <-queue:
			if !k.pass() {
				return errGone
			}
			judge([]nft.HeldPacket{held})
			v.mu.Lock()
			t.judged = held.ID
			v.mu.Unlock()
		}
	}
}

// Queued implements coordinator.Kernel.
func (k kernelPort) Queued() (last, judged nft.HeldID) {
	v := k.node().world.wire
	v.mu.Lock()
	defer v.mu.Unlock()
	t := v.table(k.node())
	if t.queue == nil {
		return 0, 0
	}
	return t.last, t.judged
}

// Decide implements coordinator.Kernel.
func (k kernelPort) Decide(decisions []nft.Decision) error {
	if !k.pass() {
		return errGone
	}
	n := k.node()
	v := n.world.wire
	v.mu.Lock()
	defer v.mu.Unlock()
	t := v.table(n)
	for _, d := range decisions {
		p, waits := t.waiting[d.ID]
		delete(t.waiting, d.ID)
		s := t.sets[p.service]
		switch {
		case !waits:
		case d.Verdict == nft.Theirs && !p.tcp():
			t.theirs[p.flow] = time.Now().Add(nft.TheirsTime)
		case d.Verdict == nft.Pass && v.hears(n) && (s.Own.Has(p.bucket) || s.Inherit.Has(p.bucket) || s.Take.Has(p.bucket)):
			v.passed++
			v.accept(n, p)
		}
	}
	return nil
}

// Known implements coordinator.Kernel.
func (k kernelPort) Known(flows []nft.Flow) ([]bool, error) {
	if !k.pass() {
		return nil, errGone
	}
	v := k.node().world.wire
	v.mu.Lock()
	defer v.mu.Unlock()
	known := make([]bool, len(flows))
	for i, f := range flows {
		known[i] = v.table(k.node()).flows[f].alive(time.Now())
	}
	return known, nil
}

// Disown implements coordinator.Kernel.
func (k kernelPort) Disown(_ []nft.Service, buckets map[string]hashmode.Set) error {
	v := k.node().world.wire
	if !k.pass() || !k.sleep(v.rng.around(5*time.Millisecond)) || !k.pass() {
		return errGone
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	maps.DeleteFunc(v.table(k.node()).flows, func(_ nft.Flow, f flow) bool {
		return !f.tcp() && buckets[f.service].Has(f.bucket)
	})
	return nil
}

// AskAgain implements coordinator.Kernel.
func (k kernelPort) AskAgain() error {
	v := k.node().world.wire
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.table(k.node()).theirs)
	return nil
}

// Conntrack implements coordinator.Kernel.
func (k kernelPort) Conntrack() (nft.ConntrackUse, error) { return nft.ConntrackUse{}, nil }

// Flows implements coordinator.Kernel.
func (k kernelPort) Flows(services []nft.Service) (map[string]map[hashmode.Bucket]nft.FlowCount, error) {
	if !k.pass() {
		return nil, errGone
	}
	v := k.node().world.wire
	v.mu.Lock()
	defer v.mu.Unlock()
	all := map[string]map[hashmode.Bucket]nft.FlowCount{}
	for _, s := range services {
		all[s.Name] = map[hashmode.Bucket]nft.FlowCount{}
	}
	for _, f := range v.table(k.node()).flows {
		buckets := all[f.service]
		if buckets == nil || !f.alive(time.Now()) {
			continue
		}
		count := buckets[f.bucket]
		if f.tcp() {
			count.Active++
		} else {
			count.Other++
		}
		buckets[f.bucket] = count
	}
	return all, nil
}

// NewFlows implements coordinator.Kernel: no service here goes by load.
func (k kernelPort) NewFlows([]nft.Service) (map[string]map[hashmode.Bucket]uint64, error) {
	return nil, nil
}
