package lab

import (
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

// Counters lists what the namespace's rules with a comment and a counter have
// counted, a line for each that has counted anything: "inet take 12 held: ...".
func (n *Namespace) Counters() (string, error) {
	var out strings.Builder
	err := n.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		chains, err := conn.ListChains()
		if err != nil {
			return fmt.Errorf("list chains: %w", err)
		}
		for _, c := range chains {
			rules, err := conn.GetRules(c.Table, c)
			if err != nil {
				return fmt.Errorf("list rules of %s: %w", c.Name, err)
			}
			for _, r := range rules {
				comment, known := userdata.GetString(r.UserData, userdata.TypeComment)
				if packets := counted(r); known && packets > 0 {
					fmt.Fprintf(&out, "%s %s %d %s\n", family(c.Table.Family), c.Name, packets, comment)
				}
			}
		}
		return nil
	})
	return out.String(), err
}

// counted is what a rule's counter has counted.
func counted(r *nftables.Rule) uint64 {
	for _, e := range r.Exprs {
		if c, ok := e.(*expr.Counter); ok {
			return c.Packets
		}
	}
	return 0
}
