package e2e

import (
	"fmt"
	"strings"
	"testing"

	"earshot/e2e/lab"
	"earshot/e2e/load"
)

// TestANodeWithoutCarrierGivesUpItsShare: a node that is cut off from the
// clients but hears the cluster owns nothing until it hears them again (I2).
func TestANodeWithoutCarrierGivesUpItsShare(t *testing.T) {
	l := newCluster(t, lab.Options{Nodes: 3, Apart: true, Services: webAndEcho("sourceip")})
	deaf := l.Node("n2")
	if err := deaf.Port.Unplug(); err != nil {
		t.Fatal(err)
	}
	moved := lab.Eventually(t, moveLimit, "n2 owns nothing", func() error {
		s, err := statusOf(l.Node("n1"))
		if err != nil {
			return err
		}
		if n := s.node("n2"); !n.Alive || n.State != "in" {
			return fmt.Errorf("n2, which follows the cluster: %+v", n)
		}
		for _, v := range s.Services {
			if n := v.owned("n2"); n > 0 {
				return fmt.Errorf("n2 owns %d buckets of %s", n, v.Name)
			}
		}
		return nil
	})
	t.Logf("share moved after %v", moved)
	if out := command(t, l.Node("n1"), "status"); !strings.Contains(out, "no carrier") {
		t.Errorf("the status does not say why:\n%s", out)
	}
	complete(t, l, thousand(l, load.HTTP, webPort))
	if err := deaf.Port.Replug(); err != nil {
		t.Fatal(err)
	}
	t.Logf("whole again after %v", whole(t, l, formLimit))
}
