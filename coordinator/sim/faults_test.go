package sim

import "time"

// fault is one kind of fault.
type fault struct {
	name string
	// bound is how long a bucket may be without an opener because of it, if
	// nothing else is wrong: see the package's documentation.
	bound func(w *world) time.Duration
	// do makes the fault and returns what mends it.
	do func(w *world, victim *node, length time.Duration) (mend func())
}

// slack is for what does not depend on the lease: disks, latency, the wait
// between two tries to write to the kernel.
const slack = 250 * time.Millisecond

// bounded is the bound of a fault in leases. A bucket that settles is not
// counted as open.
func bounded(leases int) func(*world) time.Duration {
	return func(w *world) time.Duration { return time.Duration(leases)*w.timing.Lease + slack + w.timing.Settle }
}

// restBound is that of a restart that fails: what its long lease is cut short
// by, and waited for beyond it, comes on top.
func restBound(w *world) time.Duration { return bounded(4)(w) + w.timing.Rest/25 }

func faults() []fault {
	one, hung := bounded(4), bounded(7)
	// What is lost here and there may cost an election first, and then a node
	// that is heard and silent: two leases until that shows, and its death.
	partly := bounded(7)
	return []fault{
		{"kill", one, kill},
		{"reboot", one, reboot},
		{"stop", one, stop},
		{"stop within Lease", one, stopInLease},
		{"cut off", one, cutOff},
		{"deaf to the cluster", partly, cutIn},
		{"mute to the cluster", partly, cutOut},
		{"one pair cut", partly, cutPair},
		{"halves", one, halves},
		{"slow links", partly, slowLinks},
		{"lossy links", partly, lossyLinks},
		{"doubled requests", one, doubled},
		{"held up", hung, heldUp},
		{"disk stalls", hung, diskStall},
		{"disk slow", hung, diskSlow},
		{"disk full", hung, diskFull},
		{"restart", restBound, restart},
		{"restart that fails", restBound, restartFails},
		{"wipe", one, wipe},
		{"forget", one, forget},
		{"no carrier", one, noCarrier},
		{"kernel slow", hung, kernelSlow},
		{"kernel refuses", hung, kernelRefuses},
		{"leader hands over", one, handOver},
	}
}

func kill(w *world, n *node, _ time.Duration) func() {
	n.kill()
	return n.start
}

func reboot(w *world, n *node, _ time.Duration) func() {
	n.kill()
	n.kernel.reboot()
	return n.start
}

func stop(w *world, n *node, _ time.Duration) func() {
	p := n.running()
	if p == nil {
		return func() {}
	}
	return p.freeze()
}

func heldUp(w *world, n *node, length time.Duration) func() {
	p := n.running()
	if p == nil {
		return func() {}
	}
	set := func(late time.Duration) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.late = late
	}
	set(length)
	return func() { set(0) }
}

func stopInLease(w *world, n *node, length time.Duration) func() {
	n.kernel.mu.Lock()
	defer n.kernel.mu.Unlock()
	n.kernel.hold = length
	return func() {
		n.kernel.mu.Lock()
		defer n.kernel.mu.Unlock()
		n.kernel.hold = 0
	}
}

// cut cuts or mends one direction between two nodes.
func (w *world) cut(from, to *node, by int) {
	w.network.change(from.i, to.i, func(l *link) { l.cut += by })
}

// onLinks does something to all links of a node, and returns what undoes it.
func (w *world) onLinks(n *node, do func(other *node, sign int)) func() {
	others := w.all()
	for _, o := range others {
		if o != n {
			do(o, 1)
		}
	}
	return func() {
		for _, o := range others {
			if o != n {
				do(o, -1)
			}
		}
	}
}

func cutOff(w *world, n *node, _ time.Duration) func() {
	return w.onLinks(n, func(o *node, sign int) {
		w.cut(n, o, sign)
		w.cut(o, n, sign)
	})
}

func cutIn(w *world, n *node, _ time.Duration) func() {
	return w.onLinks(n, func(o *node, sign int) { w.cut(o, n, sign) })
}

func cutOut(w *world, n *node, _ time.Duration) func() {
	return w.onLinks(n, func(o *node, sign int) { w.cut(n, o, sign) })
}

func cutPair(w *world, n *node, _ time.Duration) func() {
	other := w.all()[(n.i+1+w.fate.below(len(w.all())-1))%len(w.all())]
	both := w.fate.chance(0.5)
	do := func(sign int) {
		w.cut(n, other, sign)
		if both {
			w.cut(other, n, sign)
		}
	}
	do(1)
	return func() { do(-1) }
}

// halves cuts the cluster in two, the victim in the smaller part.
func halves(w *world, n *node, _ time.Duration) func() {
	all := w.all()
	minority := map[*node]bool{n: true}
	for len(minority) < (len(all)-1)/2 {
		minority[all[w.fate.below(len(all))]] = true
	}
	do := func(sign int) {
		for _, a := range all {
			for _, b := range all {
				if minority[a] != minority[b] {
					w.cut(a, b, sign)
				}
			}
		}
	}
	do(1)
	return func() { do(-1) }
}

func slowLinks(w *world, n *node, _ time.Duration) func() {
	slow := w.fate.upTo(w.timing.Lease / 4)
	return w.onLinks(n, func(o *node, sign int) {
		w.network.change(n.i, o.i, func(l *link) { l.slow += time.Duration(sign) * slow })
		w.network.change(o.i, n.i, func(l *link) { l.slow += time.Duration(sign) * slow })
	})
}

func lossyLinks(w *world, n *node, _ time.Duration) func() {
	loss := w.fate.float() * 0.2
	return w.onLinks(n, func(o *node, sign int) {
		w.network.change(n.i, o.i, func(l *link) { l.loss += float64(sign) * loss })
		w.network.change(o.i, n.i, func(l *link) { l.loss += float64(sign) * loss })
	})
}

func doubled(w *world, _ *node, _ time.Duration) func() {
	set := func(p float64) {
		w.network.mu.Lock()
		defer w.network.mu.Unlock()
		w.network.twice = p
	}
	set(0.1)
	return func() { set(0) }
}

func diskStall(w *world, n *node, _ time.Duration) func() { return n.disk.stall() }

func diskSlow(w *world, n *node, _ time.Duration) func() {
	n.disk.set(func(d *disk) { d.latency = w.fate.upTo(w.timing.Lease / 4) })
	return func() { n.disk.set(func(d *disk) { d.latency = time.Millisecond }) }
}

func diskFull(w *world, n *node, _ time.Duration) func() {
	n.disk.set(func(d *disk) { d.full = true })
	return func() { n.disk.set(func(d *disk) { d.full = false }) }
}

// restart is systemctl restart, or an upgrade.
func restart(w *world, n *node, length time.Duration) func() {
	w.timers.Go(func() {
		n.stop()
		w.after(min(length, w.timing.Rest/2), n.start)
	})
	return func() {}
}

// restartFails is one that takes longer than the restart lease.
func restartFails(w *world, n *node, length time.Duration) func() {
	w.timers.Go(func() {
		n.stop()
		w.after(w.timing.Rest+length, n.start)
	})
	return func() {}
}

// wipe empties one disk: those of a majority are more than anybody can lose.
func wipe(w *world, n *node, length time.Duration) func() {
	if w.wiped {
		return kill(w, n, length)
	}
	w.wiped = true
	n.kill()
	if w.fate.chance(0.5) {
		n.kernel.reboot()
	}
	n.wipe()
	return n.start
}

// forget has the operator give a node up for good, though it may be alive and
// only out of reach. Later its old disk comes back, for a while; then it joins
// with a new one.
func forget(w *world, n *node, length time.Duration) func() {
	if w.wiped {
		return kill(w, n, length)
	}
	w.wiped = true
	heal := func() {}
	if w.fate.chance(0.5) {
		heal = cutOff(w, n, length)
	} else {
		n.kill()
	}
	insists, late, reboot := w.fate.upTo(4*w.timing.Lease), w.fate.upTo(2*w.timing.Lease), w.fate.chance(0.5)
	w.active.Add(1)
	ended := make(chan struct{})
	w.timers.Go(func() {
		w.operator.forget(n, ended)
		_ = wait(late, w.ended)
		n.kill()
		if reboot {
			n.kernel.reboot()
		}
		n.wipe()
		n.start()
		w.active.Add(-1)
	})
	return func() {
		w.after(insists, func() {
			heal()
			n.start()
			close(ended)
		})
	}
}

func noCarrier(w *world, n *node, _ time.Duration) func() {
	n.kernel.setDeaf(true)
	return func() { n.kernel.setDeaf(false) }
}

func kernelSlow(w *world, n *node, length time.Duration) func() {
	n.kernel.takeTime(w.fate.upTo(min(length, 2*w.timing.Lease)))
	return func() { n.kernel.takeTime(0) }
}

func kernelRefuses(w *world, n *node, _ time.Duration) func() {
	set := func(b bool) {
		n.kernel.mu.Lock()
		defer n.kernel.mu.Unlock()
		n.kernel.broken = b
	}
	set(true)
	return func() { set(false) }
}

func handOver(w *world, n *node, _ time.Duration) func() {
	leader := w.leader()
	if leader == nil {
		return func() {}
	}
	p := leader.running()
	w.timers.Go(func() {
		ctx, cancel := timeout(w.timing.Lease)
		defer cancel()
		_ = p.store.Transfer(ctx)
	})
	return func() {}
}
