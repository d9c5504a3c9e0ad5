package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"earshot/e2e/lab"
	"earshot/e2e/load"
)

// All nodes are ill, and the service is to be refused then: each client has a
// reset at once, from one node, though the servers are there. Who is connected
// stays so, and when the nodes are well again everybody is served.
func TestAllNodesAreIllAndRefuse(t *testing.T) {
	service := web("sourceip", "tcp/80")
	service.Fallback = "refuse"
	w := newWard(t, 3, service)
	open := generate(t, w.Lab, held(w.Lab))
	wait(t, open)
	for _, n := range w.Nodes {
		w.setAlive(n, false)
	}
	refuses := func(want bool) {
		t.Helper()
		lab.Eventually(t, moveLimit, fmt.Sprintf("the status says that the service is refused: %v", want), func() error {
			s, err := statusOf(w.Nodes[0])
			if err == nil && s.service("web").Refuses != want {
				err = fmt.Errorf("%+v", s.service("web"))
			}
			return err
		})
	}
	refuses(true)
	if text := command(t, w.Nodes[0], "status"); !strings.Contains(text, "new flows are refused") {
		t.Errorf("the status does not say so:\n%s", text)
	}
	refused(t, w)

	for _, n := range w.Nodes {
		w.setAlive(n, true)
	}
	refuses(false)
	t.Logf("whole again after %v", whole(t, w.Lab, formLimit))
	lab.Eventually(t, moveLimit, "every client is served", func() error { return refusals(t, w, 100, 0) })
	noFailure(t, "open connections", finish(t, "open connections", open))
}

// refused waits until every node has taken it in, and then asks for a thousand
// clients: each is refused, by one node, without delay.
func refused(t *testing.T, w *ward) {
	t.Helper()
	lab.Eventually(t, moveLimit, "every client is refused", func() error { return refusals(t, w, 100, 100) })
	wire := watch(t, w.Lab)
	records, err := generate(t, w.Lab, thousand(w.Lab, load.HTTP, webPort)).Wait()
	if err != nil {
		t.Fatal(err)
	}
	slowest := time.Duration(0)
	for _, r := range records {
		slowest = max(slowest, r.Latency)
		if r.Failure != load.Refused {
			t.Errorf("%s: %q by %s: %s", r.Client, r.Failure, r.Node, r.Detail)
		}
	}
	t.Logf("the slowest refusal took %v", slowest)
	if slowest >= time.Second { // a SYN is sent again after that
		t.Errorf("a client waited %v to be refused", slowest)
	}
	answeredOnce(t, wire, load.TCP)
}

// refusals reports whether of so many clients so many are refused.
func refusals(t *testing.T, w *ward, clients, want int) error {
	t.Helper()
	p := thousand(w.Lab, load.HTTP, webPort)
	p.Count, p.Sources = clients, p.Sources[:clients]
	records, err := generate(t, w.Lab, p).Wait()
	if err != nil {
		return err
	}
	got := 0
	for _, r := range records {
		if r.Failure == load.Refused {
			got++
		}
	}
	if got != want || len(records.Failed()) != want {
		return fmt.Errorf("%d of %d refused: %v", got, clients, records.Summary())
	}
	return nil
}
