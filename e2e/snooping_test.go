package e2e

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"earshot/e2e/lab"
	"earshot/e2e/load"
)

var querierFor = flag.Duration("querier", 0, "how long a bridge's querier is about, at its usual pace; 0: some seconds, at a quick one")

// A bridge that snoops and asks for members itself. By a stealth MAC all goes
// on as without it. By a multicast one, frames stop where the kernel's bridge
// goes by the packets' addresses; then either knob that the documentation
// names mends it.
func TestABridgeThatSnoops(t *testing.T) {
	longStory(t)
	for _, mode := range []string{"stealth", "multicast"} {
		t.Run(mode, func(t *testing.T) {
			four, six := web("sourceip-sourceport", "tcp/80"), web("sourceip-sourceport", "tcp/80")
			six.Address = sixthAddr.String() + "/64"
			four.MACMode, six.MACMode = mode, mode
			l := newCluster(t, lab.Options{Nodes: 3, Snooping: true, Services: map[string]lab.Service{"four": four, "six": six}})
			length := *querierFor
			if length == 0 {
				length = 5 * time.Second
				if err := l.Service.QuickQuerier(); err != nil {
					t.Fatal(err)
				}
			}
			if mode == "stealth" {
				if failed := askBoth(t, l, length, formLimit); failed > 0 {
					t.Errorf("%d requests failed", failed)
				}
				return
			}
			if askBoth(t, l, length, soon) == 0 {
				return // this bridge delivers by the MAC
			}
			knob := func(value string) {
				for _, n := range l.Nodes {
					if err := n.Port.SetPort("multicast_router", value); err != nil {
						t.Fatal(err)
					}
				}
			}
			knob("2")
			mended(t, l, "mcast_router 2 on the nodes' ports", length)
			knob("1")
			lab.Eventually(t, moveLimit, "the knob back, and the trouble with it", func() error {
				if askBoth(t, l, time.Second, soon) == 0 {
					return errors.New("every request answered")
				}
				return nil
			})
			if err := l.Service.Set("multicast_snooping", "0"); err != nil {
				t.Fatal(err)
			}
			mended(t, l, "snooping off", length)
		})
	}
}

// mended demands that every request is answered from soon on.
func mended(t *testing.T, l *lab.Lab, how string, length time.Duration) {
	t.Helper()
	after := lab.Eventually(t, moveLimit, how, func() error {
		if failed := askBoth(t, l, time.Second, soon); failed > 0 {
			return fmt.Errorf("%d requests failed", failed)
		}
		return nil
	})
	t.Logf("%s: mended, seen after %v", how, after.Round(time.Millisecond))
	if failed := askBoth(t, l, length, formLimit); failed > 0 {
		t.Errorf("%s: %d requests failed", how, failed)
	}
}

// soon is when a request counts as lost where many are.
const soon = 2 * time.Second

// askBoth asks in both families for a time, and returns how many requests
// were not answered within the patience.
func askBoth(t *testing.T, l *lab.Lab, length, patience time.Duration) int {
	t.Helper()
	const rate = 100 // per second and family
	var runs []*load.Run
	for target, sources := range map[netip.Addr][]netip.Addr{
		serviceAddr: l.Clients[0].SourceList(1000), sixthAddr: {l.Clients[0].Port.IPv6},
	} {
		runs = append(runs, generate(t, l, load.Plan{
			Kind: load.HTTP, Target: netip.AddrPortFrom(target, webPort), Sources: sources,
			Rate: rate, Count: max(int(length.Seconds()*rate), rate), Timeout: patience,
		}))
	}
	failed := 0
	for _, run := range runs {
		records, err := run.Wait()
		if err != nil {
			t.Fatal(err)
		}
		t.Log(records.Summary())
		failed += len(records.Failed())
	}
	return failed
}
