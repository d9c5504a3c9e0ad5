package lab

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Tables lists the names of the namespace's nf_tables, "inet earshot".
func (n *Namespace) Tables() ([]string, error) {
	var names []string
	err := n.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := conn.ListTables()
		for _, t := range tables {
			names = append(names, family(t.Family)+" "+t.Name)
		}
		return err
	})
	return names, err
}

// family writes a table's family as nft does.
func family(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyINet:
		return "inet"
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	case nftables.TableFamilyARP:
		return "arp"
	case nftables.TableFamilyNetdev:
		return "netdev"
	case nftables.TableFamilyBridge:
		return "bridge"
	}
	return fmt.Sprintf("family%d", f)
}

// tableLines lists everything in the tables of the current namespace.
func tableLines() ([]string, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.CloseLasting() }()
	tables, err := conn.ListTables()
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	var lines []string
	for _, t := range tables {
		name := family(t.Family) + " " + t.Name
		lines = append(lines, "table "+name)
		sets, err := setLines(conn, t, name)
		if err != nil {
			return nil, err
		}
		lines = append(lines, sets...)
	}
	chains, err := chainLines(conn)
	return append(lines, chains...), err
}

// setLines lists a table's sets, and the elements of those without timeouts.
func setLines(conn *nftables.Conn, t *nftables.Table, table string) ([]string, error) {
	sets, err := conn.GetSets(t)
	if err != nil {
		return nil, fmt.Errorf("list sets of %s: %w", table, err)
	}
	var lines []string
	for _, s := range sets {
		name := table + " " + s.Name
		lines = append(lines, fmt.Sprintf("set %s timeout=%v", name, s.HasTimeout))
		if s.HasTimeout {
			continue // its elements come and go by themselves
		}
		elements, err := conn.GetSetElements(s)
		if err != nil {
			return nil, fmt.Errorf("list elements of %s: %w", name, err)
		}
		for _, e := range elements {
			lines = append(lines, fmt.Sprintf("element %s %x %x %v end=%v", name, e.Key, e.Val, e.VerdictData, e.IntervalEnd))
		}
	}
	return lines, nil
}

// chainLines lists the chains of all tables with their rules.
func chainLines(conn *nftables.Conn) ([]string, error) {
	chains, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	var lines []string
	for _, c := range chains {
		name := family(c.Table.Family) + " " + c.Table.Name + " " + c.Name
		lines = append(lines, "chain "+name)
		rules, err := conn.GetRules(c.Table, c)
		if err != nil {
			return nil, fmt.Errorf("list rules of %s: %w", name, err)
		}
		for i, r := range rules {
			lines = append(lines, fmt.Sprintf("rule %s %d %s", name, i, ruleText(r)))
		}
	}
	return lines, nil
}

// ruleText writes a rule's expressions as the kernel has them, without the
// values of its counters.
func ruleText(r *nftables.Rule) string {
	text := ""
	for _, e := range r.Exprs {
		if _, ok := e.(*expr.Counter); ok {
			text += " counter"
			continue
		}
		encoded, err := expr.Marshal(byte(r.Table.Family), e)
		if err != nil {
			text += fmt.Sprintf(" %T: %v", e, err)
			continue
		}
		text += fmt.Sprintf(" %T %x", e, encoded)
	}
	return text
}
