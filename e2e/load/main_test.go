package load

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"earshot/e2e/lab"
)

func TestMain(m *testing.M) {
	os.Exit(lab.Program{Run: m.Run, Roles: Roles()}.Main())
}

// shared is an address that tests give to nodes.
var shared = netip.AddrFrom4([4]byte{192, 168, 56, 20})

// start builds a lab with servers on all nodes.
func start(t *testing.T, nodes int) *lab.Lab {
	t.Helper()
	l := lab.Start(t, lab.Options{Nodes: nodes, Clients: 1})
	for _, n := range l.Nodes {
		if _, err := Serve(n.Namespace, Service{Name: n.Name, HTTP: []string{":80"}, UDP: []string{":7000"}}); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// finish runs a plan with a count to its end.
func finish(t *testing.T, l *lab.Lab, p Plan) Records {
	t.Helper()
	run, err := Start(l.Clients[0].Namespace, p)
	if err != nil {
		t.Fatal(err)
	}
	records, err := run.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// watch puts a witness on the first client's wire.
func watch(t *testing.T, l *lab.Lab) *Witness {
	t.Helper()
	w, err := Watch(l, l.Clients[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// plan is 200 clients asking one node.
func plan(l *lab.Lab, kind Kind, port uint16) Plan {
	return Plan{
		Kind: kind, Target: netip.AddrPortFrom(l.Nodes[0].Port.Addr, port),
		Sources: l.Clients[0].SourceList(100), Rate: 1000, Count: 200, Timeout: time.Second,
	}
}
