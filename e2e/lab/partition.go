package lab

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// cut is a pair of switch ports between which frames are lost, one way.
type cut struct{ from, to string }

// tableName is the lab's own table in the switch's namespace.
const tableName = "lab"

// Cut loses all frames from one host's port to another's, in this direction.
// Both ports keep their carrier. See Sever for both directions.
func (l *Lab) Cut(from, to *Port) error {
	l.cuts[cut{from.outlet, to.outlet}] = true
	return l.applyCuts()
}

// Sever loses all frames between two hosts' ports, both ways.
func (l *Lab) Sever(a, b *Port) error {
	l.cuts[cut{a.outlet, b.outlet}] = true
	l.cuts[cut{b.outlet, a.outlet}] = true
	return l.applyCuts()
}

// Isolate loses all frames between the nodes of the set and the other nodes,
// where the agents talk. Clients still reach all of them.
func (l *Lab) Isolate(nodes ...*Node) error {
	in := map[*Node]bool{}
	for _, n := range nodes {
		in[n] = true
	}
	for _, a := range l.Nodes {
		for _, b := range l.Nodes {
			if in[a] != in[b] {
				l.cuts[cut{a.Cluster.outlet, b.Cluster.outlet}] = true
			}
		}
	}
	return l.applyCuts()
}

// Heal undoes every Cut, Sever and Isolate.
func (l *Lab) Heal() error {
	clear(l.cuts)
	return l.applyCuts()
}

// applyCuts replaces the lab's table in one transaction.
func (l *Lab) applyCuts() error {
	err := l.fabric.Do(func() error {
		conn, err := nftables.New(nftables.AsLasting())
		if err != nil {
			return err
		}
		defer func() { _ = conn.CloseLasting() }()
		table := &nftables.Table{Family: nftables.TableFamilyBridge, Name: tableName}
		conn.AddTable(table) // so that it can be deleted
		conn.DelTable(table)
		conn.AddTable(table)
		forward := conn.AddChain(&nftables.Chain{
			Name: "cuts", Table: table, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
		})
		for c := range l.cuts {
			conn.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: c.rule()})
		}
		return conn.Flush()
	})
	if err != nil {
		return fmt.Errorf("cut the wire: %w", err)
	}
	return nil
}

// rule is: iifname FROM oifname TO counter drop
func (c cut) rule() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: linkName(c.from)},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: linkName(c.to)},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
}

// linkName is a link's name as the kernel compares it.
func linkName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}
