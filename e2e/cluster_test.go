package e2e

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"earshot/e2e/lab"
	"earshot/e2e/load"
)

const (
	// formLimit is the time from a cold start to every bucket answered. It is
	// a limit for a busy machine; the benchmark measures.
	formLimit = 20 * time.Second
	// moveLimit is the time for moves that a command asks for.
	moveLimit = 20 * time.Second
	// storyLease is longer than the default, so that a busy machine does not
	// tell another story. How short it can be is for the benchmark.
	storyLease = time.Second
)

// The service address of every story, and a second one.
var (
	serviceAddr = netip.AddrFrom4([4]byte{192, 168, 56, 20})
	secondAddr  = netip.AddrFrom4([4]byte{192, 168, 56, 21})
)

const (
	webPort  = 80
	echoPort = 7000
)

// web is a service on the first address.
func web(hash string, ports ...string) lab.Service {
	return lab.Service{
		Address: serviceAddr.String() + "/24", Interface: "eth1", Hash: hash, Ports: ports, Buckets: 1024,
		Drain: lab.Duration(time.Hour), // longer than any story: no flow is cut by it
	}
}

// webAndEcho are HTTP and UDP side by side on one address.
func webAndEcho(hash string) map[string]lab.Service {
	return map[string]lab.Service{"web": web(hash, "tcp/80"), "echo": web(hash, "udp/7000")}
}

// newLab makes a lab with servers on all nodes; no agent runs.
func newLab(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	o.Bin = bin
	if o.Lease == 0 {
		o.Lease = storyLease
	}
	if o.Clients == 0 {
		o.Clients = 1
	}
	l := lab.Start(t, o)
	for _, n := range l.Nodes {
		serveOn(t, n)
	}
	return l
}

// serveOn starts a node's servers.
func serveOn(t *testing.T, n *lab.Node) {
	t.Helper()
	s := load.Service{Name: n.Name, HTTP: []string{":80", ":8080"}, UDP: []string{":7000"}}
	if _, err := load.Serve(n.Namespace, s); err != nil {
		t.Fatal(err)
	}
}

// newCluster makes a lab whose agents answer for every bucket.
func newCluster(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	l := newLab(t, o)
	if err := l.StartAll(); err != nil {
		t.Fatal(err)
	}
	t.Logf("from the start to every bucket answered: %v", whole(t, l, formLimit))
	return l
}

// whole waits until every node is in and alive and each node's agent tells the
// same story: every bucket has one owner.
func whole(t *testing.T, l *lab.Lab, limit time.Duration) time.Duration {
	t.Helper()
	return lab.Eventually(t, limit, "cluster is whole", func() error {
		var first map[string][]string
		for _, n := range l.Nodes {
			if !n.Running() {
				t.Fatalf("the agent of %s has ended", n.Name)
			}
			s, err := statusOf(n)
			if err != nil {
				return err
			}
			owners, err := wholeStatus(l, s)
			if err != nil {
				return fmt.Errorf("%s says: %w", n.Name, err)
			}
			if first == nil {
				first = owners
			}
			if !maps.EqualFunc(first, owners, slices.Equal) {
				return fmt.Errorf("%s and %s tell different maps", l.Nodes[0].Name, n.Name)
			}
		}
		return nil
	})
}

// wholeStatus returns the owners of all services of a whole cluster.
func wholeStatus(l *lab.Lab, s status) (map[string][]string, error) {
	if !s.Cluster.Quorum || s.Cluster.Leader == "" {
		return nil, errors.New("no quorum")
	}
	if len(s.Nodes) != len(l.Nodes) {
		return nil, fmt.Errorf("%d nodes of %d", len(s.Nodes), len(l.Nodes))
	}
	all := map[string][]string{}
	for _, v := range s.Services {
		owners, err := v.owners()
		if err != nil {
			return nil, err
		}
		all[v.Name] = owners
	}
	if len(all) == 0 {
		return nil, errors.New("no services")
	}
	for _, n := range l.Nodes {
		if got := s.node(n.Name); !got.Alive || got.State != "in" || got.LeaseMS <= 0 {
			return nil, fmt.Errorf("node %s: %+v", n.Name, got)
		}
		for _, v := range s.Services {
			if v.owned(n.Name) == 0 {
				return nil, fmt.Errorf("%s owns nothing of %s", n.Name, v.Name)
			}
		}
	}
	return all, nil
}

// ask returns a node's status; the test ends if there is none.
func ask(t *testing.T, n *lab.Node) status {
	t.Helper()
	s, err := statusOf(n)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ownersOf returns the owners of one service's buckets.
func ownersOf(t *testing.T, n *lab.Node, service string) []string {
	t.Helper()
	owners, err := ask(t, n).service(service).owners()
	if err != nil {
		t.Fatal(err)
	}
	return owners
}

// command runs an earshot command that must succeed.
func command(t *testing.T, n *lab.Node, args ...string) string {
	t.Helper()
	r, err := n.Run(args...)
	if err != nil {
		t.Fatal(err)
	}
	if r.Code != 0 {
		t.Fatalf("earshot %q on %s: exit status %d\n%s%s", args, n.Name, r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// watch puts a witness on the first client's wire.
func watch(t *testing.T, l *lab.Lab) *load.Witness {
	t.Helper()
	w, err := load.Watch(l, l.Clients[0])
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

// generate starts a generator at the first client.
func generate(t *testing.T, l *lab.Lab, p load.Plan) *load.Run {
	t.Helper()
	run, err := load.Start(l.Clients[0].Namespace, p)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// steady is the load of the stories: 500 new connections per second from
// 1,000 addresses.
func steady(l *lab.Lab) load.Plan {
	return load.Plan{
		Kind: load.HTTP, Target: netip.AddrPortFrom(serviceAddr, webPort),
		Sources: l.Clients[0].SourceList(1000), Rate: 500,
	}
}

// held are 100 open connections that keep asking.
func held(l *lab.Lab) load.Plan {
	p := steady(l)
	p.Kind, p.Count = load.Hold, 100
	return p
}

// finish ends a generator and shows what became of its requests.
func finish(t *testing.T, what string, run *load.Run) load.Records {
	t.Helper()
	records, err := run.Stop()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %v", what, records.Summary())
	return records
}

// noFailure demands that no request failed.
func noFailure(t *testing.T, what string, records load.Records) {
	t.Helper()
	failed := records.Failed()
	for _, r := range failed[:min(len(failed), 5)] {
		t.Errorf("%s: %s from %s at %s after %v: %s", what, r.Failure, r.Client, r.Start.Format(time.StampMilli), r.Latency, r.Detail)
	}
	if len(records) == 0 || len(failed) > 0 {
		t.Errorf("%s: %d of %d requests failed", what, len(failed), len(records))
	}
}

// answeredOnce demands of the wire that nobody was answered twice (I1, I3).
func answeredOnce(t *testing.T, w *load.Witness, proto load.Proto) load.Verdict {
	t.Helper()
	v, err := w.Verdict(proto)
	if err != nil {
		t.Fatal(err)
	}
	for _, why := range append(v.Twice[:min(len(v.Twice), 5)], v.Mixed[:min(len(v.Mixed), 5)]...) {
		t.Error(why)
	}
	if v.Asked == 0 || len(v.Twice)+len(v.Mixed) > 0 {
		t.Errorf("%s: of %d questions %d answered twice, %d by several nodes", proto, v.Asked, len(v.Twice), len(v.Mixed))
	}
	return v
}
