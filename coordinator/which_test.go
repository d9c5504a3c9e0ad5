package coordinator

import (
	"testing"

	"earshot/hashmode"
	"earshot/raftstore"
)

// By sourcenet, all clients of a network have one bucket and one node, which
// the answer and the status tell from the replicated definition alone.
func TestWhichByNetwork(t *testing.T) {
	h := newHistory(t)
	h.join("a", 1)
	d := testDefinition("web", 1024)
	d.Hash, d.Prefix = hashmode.SourceNet, 20
	h.must(raftstore.Command{Define: &raftstore.Define{Seed: 7, Definition: d}})
	h.replan()
	ask := func(client string) Which {
		t.Helper()
		w, err := which(h.state, "web", client, "")
		if err != nil || w.Node != "a" {
			t.Fatalf("%s: %+v, %v", client, w, err)
		}
		return w
	}
	first := ask("198.51.100.7")
	for _, same := range []string{"198.51.96.1:80", "198.51.111.255"} {
		if got := ask(same); got.Bucket != first.Bucket {
			t.Errorf("%s has bucket %d, its network %d", same, got.Bucket, first.Bucket)
		}
	}
	if got := ask("198.51.112.1"); got.Bucket == first.Bucket {
		t.Errorf("another network has bucket %d, too", got.Bucket)
	}
	if s := serviceStatus(h.state, "web", nil, nil); s.Hash != "sourcenet" || s.Prefix != 20 {
		t.Errorf("status: by %s /%d", s.Hash, s.Prefix)
	}
}
