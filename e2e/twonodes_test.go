package e2e

import (
	"testing"

	"earshot/e2e/lab"
	"earshot/e2e/load"
)

// The seeds' own example: two nodes, sourceip, TCP port 80 on one address.
// What was `echo -1` and `echo +1` to CLUSTERIP's file is `out` and `in`.
func TestTwoNodesShareOneAddress(t *testing.T) {
	l := newCluster(t, lab.Options{Nodes: 2, Services: map[string]lab.Service{"web": web("sourceip", "tcp/80")}})
	first, second := l.Nodes[0], l.Nodes[1]
	w := watch(t, l)
	half := complete(t, l, thousand(l, load.HTTP, webPort)).Summary().Nodes
	if half[first.Name] < clients/3 || half[second.Name] < clients/3 {
		t.Errorf("not about half each: %v", half)
	}

	command(t, first, "out", "--wait")
	if got := ask(t, second).node(first.Name); got.State != "out" || !got.Alive {
		t.Errorf("after out: %+v", got)
	}
	if alone := complete(t, l, thousand(l, load.HTTP, webPort)).Summary().Nodes; alone[second.Name] != clients {
		t.Errorf("%s is out: %v", first.Name, alone)
	}

	command(t, second, "in", first.Name)
	whole(t, l, moveLimit)
	again := complete(t, l, thousand(l, load.HTTP, webPort)).Summary().Nodes
	if again[first.Name] < clients/3 || again[second.Name] < clients/3 {
		t.Errorf("after in: %v", again)
	}
	answeredOnce(t, w, load.TCP)
}
