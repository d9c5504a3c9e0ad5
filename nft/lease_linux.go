package nft

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// LeaseTolerance is how long installing a lease may take after its length was
// computed. The length is shorter by as much, so a lease never outlasts the
// time that Lease was given, but for the rounding of the kernel's timer up to
// a jiffy. An installation takes some 0.1 ms; what takes longer was paused or
// waited for an Apply, and is tried again with twice the tolerance, since on a
// busy machine a shorter lease is better than none.
const LeaseTolerance = 2 * time.Millisecond

// leaser renews the lease. Its lock and connection are its own, so that it
// does not wait for an Apply.
type leaser struct {
	wire   wire
	known  bool // active is what the kernel has
	active slot
	now    func() time.Time
	// pause, if set, is called where a process may be stopped: for tests.
	pause func(leasePoint)
}

// A leasePoint is a place between two steps of Lease.
type leasePoint int

const (
	leaseComputed leasePoint = iota
	leaseStaged
	leaseChecked
)

func (l *leaser) at(p leasePoint) {
	if l.pause != nil {
		l.pause(p)
	}
}

// Lease lets this node answer until the given time, which must carry a
// monotonic reading. It replaces the lease that stands, be that longer or
// shorter. A process that is stopped anywhere in it does not lengthen the
// lease (rule P8): the kernel's timer runs from the first transaction, which
// fills the slot that no rule looks at; the clock decides whether that one was
// in time; the second selects it and empties the other.
//
// It returns ErrLate when the lease could not be installed in time: what
// stood before stands still. ErrNoTable means that there is no ruleset.
func (p *Plane) Lease(until time.Time) error {
	p.leaseMu.Lock()
	defer p.leaseMu.Unlock()
	l := &p.lease
	if err := l.find(); err != nil {
		return fmt.Errorf("read lease: %w", err)
	}
	var ends time.Time // of the kernel's timer, at the earliest
	for tolerance := LeaseTolerance; ; tolerance *= 2 {
		computed := l.now()
		length := (until.Sub(computed) - tolerance).Truncate(time.Millisecond)
		if length <= 0 {
			return ErrLate
		}
		ends = computed.Add(length)
		l.at(leaseComputed)
		if err := l.stage(l.active.other(), length); err != nil {
			return fmt.Errorf("stage lease: %w", noTable(err))
		}
		l.at(leaseStaged)
		if l.now().Sub(computed) <= tolerance {
			break
		}
	}
	l.at(leaseChecked)
	if err := l.choose(l.active.other()); err != nil {
		l.known = false
		return fmt.Errorf("install lease: %w", noTable(err))
	}
	l.active = l.active.other()
	// What is let in later would be received and not be answered.
	p.holds.until.Store(&ends)
	return nil
}

// stage fills a slot that is not selected.
func (l *leaser) stage(s slot, length time.Duration) error {
	return l.wire.transact(func(c *nftables.Conn) error {
		for _, f := range families() {
			lease := &nftables.Set{Table: tableOf(f), Name: s.lease(), HasTimeout: true}
			c.FlushSet(lease)
			if err := c.SetAddElements(lease, elements(f, length)); err != nil {
				return err
			}
		}
		return nil
	})
}

// choose selects a slot, and empties the other so that what is left of its
// lease cannot come back.
func (l *leaser) choose(s slot) error {
	return l.wire.transact(func(c *nftables.Conn) error {
		for _, f := range families() {
			c.FlushSet(&nftables.Set{Table: tableOf(f), Name: s.other().selected()})
			c.FlushSet(&nftables.Set{Table: tableOf(f), Name: s.other().lease()})
			if err := c.SetAddElements(&nftables.Set{Table: tableOf(f), Name: s.selected()}, elements(f, 0)); err != nil {
				return err
			}
		}
		return nil
	})
}

func elements(f nftables.TableFamily, timeout time.Duration) []nftables.SetElement {
	var all []nftables.SetElement
	for _, key := range protocols(f) {
		all = append(all, nftables.SetElement{Key: key, Timeout: timeout})
	}
	return all
}

// find reads which slot is selected, unless that is known. Should both be,
// which none of our transactions leaves behind, one is chosen here, so that no
// lease is ever staged where a rule looks.
func (l *leaser) find() error {
	if l.known {
		return nil
	}
	var selected [2]bool
	err := l.wire.read(func(c *nftables.Conn) error {
		present, err := ourTables(c)
		if err != nil {
			return err
		}
		if len(present) < len(families()) {
			return ErrNoTable
		}
		for _, f := range present {
			for _, s := range []slot{slotA, slotB} {
				got, err := c.GetSetElements(&nftables.Set{Table: tableOf(f), Name: s.selected()})
				if err != nil {
					return err
				}
				selected[s] = selected[s] || len(got) > 0
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	l.active = slotA
	if selected[slotB] && !selected[slotA] {
		l.active = slotB
	}
	if selected[slotA] && selected[slotB] {
		if err := l.choose(slotA); err != nil {
			return err
		}
	}
	l.known = true
	return nil
}

// Revoke ends the lease: from now on this node answers nothing. Without a
// ruleset there is nothing to end.
func (p *Plane) Revoke() error {
	p.leaseMu.Lock()
	defer p.leaseMu.Unlock()
	p.holds.until.Store(nil)
	var ours []nftables.TableFamily
	err := p.lease.wire.read(func(c *nftables.Conn) error {
		var err error
		ours, err = ourTables(c)
		return err
	})
	if err == nil {
		err = p.lease.wire.transact(func(c *nftables.Conn) error {
			for _, f := range ours {
				for _, s := range []slot{slotA, slotB} {
					c.FlushSet(&nftables.Set{Table: tableOf(f), Name: s.selected()})
					c.FlushSet(&nftables.Set{Table: tableOf(f), Name: s.lease()})
				}
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("revoke lease: %w", err)
	}
	return nil
}

// LeaseLeft reads from the kernel how long this node may still answer, 0 if
// it may not. Where tables differ, the shortest counts.
func (p *Plane) LeaseLeft() (time.Duration, error) {
	p.leaseMu.Lock()
	defer p.leaseMu.Unlock()
	left := time.Duration(-1)
	err := p.lease.wire.read(func(c *nftables.Conn) error {
		present, err := ourTables(c)
		if err != nil || len(present) < len(families()) {
			return err // a table without lease lets nothing pass
		}
		for _, f := range present {
			l, err := leaseLeft(c, f)
			if err != nil {
				return err
			}
			if left < 0 || l < left {
				left = l
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read lease: %w", err)
	}
	return max(left, 0), nil
}

func leaseLeft(c *nftables.Conn, f nftables.TableFamily) (time.Duration, error) {
	var left time.Duration
	for _, s := range []slot{slotA, slotB} {
		selected, err := c.GetSetElements(&nftables.Set{Table: tableOf(f), Name: s.selected()})
		if err != nil {
			return 0, err
		}
		lease, err := c.GetSetElements(&nftables.Set{Table: tableOf(f), Name: s.lease()})
		if err != nil {
			return 0, err
		}
		if len(selected) > 0 && len(lease) > 0 {
			left = max(left, lease[0].Expires)
		}
	}
	return left, nil
}

// noTable makes the kernel's "no such entry" for a table or set ErrNoTable.
func noTable(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%w: %w", ErrNoTable, err)
	}
	return err
}
