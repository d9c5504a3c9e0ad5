package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"earshot/e2e/lab"
	"earshot/e2e/load"

	"golang.org/x/sys/unix"
)

// The checks of the stories: the seeds' page, asked for often.
const (
	checkEvery = 200 * time.Millisecond
	checkFalls = 2
)

// ward is a cluster whose nodes check their servers.
type ward struct {
	*lab.Lab
	t       *testing.T
	servers map[string]*load.Server
}

// newWard makes a cluster of nodes that look for foobar3000 in alive.html.
func newWard(t *testing.T, nodes int, service lab.Service) *ward {
	t.Helper()
	service.Check = map[string]any{
		"http": "http://127.0.0.1/alive.html", "expect": "foobar3000",
		"interval": checkEvery.String(), "timeout": "1s", "fall": checkFalls, "rise": 2,
	}
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	w := &ward{t: t, servers: map[string]*load.Server{}, Lab: lab.Start(t, lab.Options{
		Nodes: nodes, Clients: 1, Lease: storyLease, Bin: bin, Services: map[string]lab.Service{"web": service},
	})}
	for _, n := range w.Nodes {
		w.setAlive(n, true)
		w.serve(n)
	}
	if err := w.StartAll(); err != nil {
		t.Fatal(err)
	}
	t.Logf("from the start to every bucket answered: %v", whole(t, w.Lab, formLimit))
	return w
}

// serve starts a node's server.
func (w *ward) serve(n *lab.Node) {
	w.t.Helper()
	s, err := load.Serve(n.Namespace, load.Service{Name: n.Name, HTTP: []string{":80"}, Alive: n.Path("alive.html")})
	if err != nil {
		w.t.Fatal(err)
	}
	w.servers[n.Name] = s
}

// setAlive puts a node's page there, or takes it away.
func (w *ward) setAlive(n *lab.Node, there bool) {
	w.t.Helper()
	err := os.WriteFile(n.Path("alive.html"), []byte("<html>foobar3000</html>\n"), 0o644)
	if !there {
		err = os.Remove(n.Path("alive.html"))
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// told waits until the status says so of a node's service.
func (w *ward) told(n *lab.Node, words string) {
	w.t.Helper()
	lab.Eventually(w.t, moveLimit, fmt.Sprintf("status of %s says %q", n.Name, words), func() error {
		s, err := statusOf(w.Nodes[len(w.Nodes)-1])
		if err != nil {
			return err
		}
		for _, share := range s.service("web").Nodes {
			if share.Name == n.Name && (words == "") == (share.Unfit == "") && strings.Contains(share.Unfit, words) {
				return nil
			}
		}
		return fmt.Errorf("%+v", s.service("web").Nodes)
	})
}

// The seeds' story: alive.html disappears on one node and comes back. Its
// buckets go and return, open connections stay where they are, and nobody
// notices.
func TestAliveHTMLDisappearsAndComesBack(t *testing.T) {
	w := newWard(t, 3, web("sourceip-sourceport", "tcp/80"))
	n, operator := w.Nodes[0], w.Nodes[1]
	wire := watch(t, w.Lab)
	news, open := generate(t, w.Lab, steady(w.Lab)), generate(t, w.Lab, held(w.Lab))
	wait(t, news)

	before := ownersOf(t, operator, "web")
	w.setAlive(n, false)
	silent := shareBecomes(t, operator, n.Name, func(own int) bool { return own == 0 })
	onlyMoved(t, before, ownersOf(t, operator, "web"), func(old, _ string) bool { return old == n.Name })
	w.told(n, "status is 404")
	if text := command(t, operator, "status"); !strings.Contains(text, "cannot serve web: status is 404") {
		t.Errorf("status does not say why:\n%s", text)
	}
	wait(t, news)
	for _, r := range news.Records().Since(silent) {
		if r.Node == n.Name {
			t.Errorf("%s is ill and answered a new connection of %s", n.Name, r.Client)
		}
	}

	before = ownersOf(t, operator, "web")
	w.setAlive(n, true)
	shareBecomes(t, operator, n.Name, func(own int) bool { return own >= len(before)/3 })
	onlyMoved(t, before, ownersOf(t, operator, "web"), func(_, now string) bool { return now == n.Name })
	w.told(n, "")
	wait(t, news)
	noFailure(t, "new connections", finish(t, "new connections", news))
	noFailure(t, "open connections", finish(t, "open connections", open))
	answeredOnce(t, wire, load.TCP)
}

// Under load, a server dies. Its clients are with the others soon, and nobody
// else notices anything.
func TestAServerDies(t *testing.T) {
	for _, onFail := range []string{"cut", "drain"} {
		t.Run(onFail, func(t *testing.T) {
			service := web("sourceip", "tcp/80") // the source port of a client that is refused is unknown
			service.OnFail = onFail
			w := newWard(t, 3, service)
			n, operator := w.Nodes[0], w.Nodes[1]
			owners := ownersOf(t, operator, "web")
			spec := ask(t, operator).service("web")
			news, open := generate(t, w.Lab, steady(w.Lab)), generate(t, w.Lab, held(w.Lab))
			wait(t, news)
			died := time.Now()
			if err := w.servers[n.Name].Close(); err != nil {
				t.Fatal(err)
			}
			moved := shareBecomes(t, operator, n.Name, func(own int) bool { return own == 0 })
			wait(t, news)

			last, slow := time.Duration(0), 0
			for _, r := range finish(t, "new connections", news) {
				switch theirs := spec.expect(owners, r.Client, webPort) == n.Name; {
				case r.Failure == "":
					if theirs && r.Start.After(died) && r.Latency >= 900*time.Millisecond {
						slow++ // its SYN was lost, and sent again after a second
					}
				case !theirs:
					t.Errorf("%s, a client of another node: %s %s", r.Client, r.Failure, r.Detail)
				case r.Start.After(moved):
					t.Errorf("%s, %v after the move: %s %s", r.Client, r.Start.Sub(moved), r.Failure, r.Detail)
				default:
					last = max(last, r.Start.Sub(died))
				}
			}
			t.Logf("the last new connection that failed began %v after the death; fall × interval is %v", last, checkFalls*checkEvery)
			t.Logf("connections that were answered after a second only: %d", slow)
			for _, r := range finish(t, "open connections", open) {
				if r.Failure != "" && spec.expect(owners, r.Client, webPort) != n.Name {
					t.Errorf("%s, open with another node: %s %s", r.Client, r.Failure, r.Detail)
				}
			}
			w.serve(n)
			t.Logf("whole again after %v", whole(t, w.Lab, formLimit))
		})
	}
}

// A server hangs: it takes connections and answers nobody. With cut, clients
// that wait for an answer are reset, and ask others.
func TestAServerHangs(t *testing.T) {
	longStory(t)
	service := web("sourceip", "tcp/80")
	service.OnFail = "cut"
	w := newWard(t, 3, service)
	n, operator := w.Nodes[0], w.Nodes[1]
	owners := ownersOf(t, operator, "web")
	spec := ask(t, operator).service("web")
	p := held(w.Lab)
	p.Timeout = time.Minute // nobody gives up
	open := generate(t, w.Lab, p)
	wait(t, open)
	hung := time.Now()
	if err := w.servers[n.Name].Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	w.told(n, "no complete answer in time")
	lab.Eventually(t, moveLimit, "the clients of "+n.Name+" are reset", func() error {
		waiting := map[netip.AddrPort]bool{}
		for _, r := range open.Records() {
			if spec.expect(owners, r.Client, webPort) != n.Name {
				continue
			}
			waiting[r.Client] = r.Failure == ""
			if r.Failure != "" && r.Failure != load.Reset {
				t.Fatalf("%s: %s %s", r.Client, r.Failure, r.Detail)
			}
		}
		for client, waits := range waiting {
			if waits {
				return fmt.Errorf("%s waits", client)
			}
		}
		if len(waiting) == 0 {
			t.Fatal("nobody was connected with it")
		}
		return nil
	})
	// Without that, the server's keep-alive probes would tell them some time.
	if !strings.Contains(n.Log(), "connections reset") {
		t.Errorf("%s did not reset them", n.Name)
	}
	t.Logf("the last client was reset within %v; the check's timeout is 1s, and it must fail %d times", time.Since(hung), checkFalls)
	for _, r := range finish(t, "open connections", open) {
		if r.Failure != "" && spec.expect(owners, r.Client, webPort) != n.Name {
			t.Errorf("%s, open with another node: %s %s", r.Client, r.Failure, r.Detail)
		}
	}
	if err := w.servers[n.Name].Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	t.Logf("whole again after %v", whole(t, w.Lab, formLimit))
}

// All nodes are ill: they answer all the same, and the first to be well again
// has everything until the others are.
func TestAllNodesAreIll(t *testing.T) {
	w := newWard(t, 3, web("sourceip-sourceport", "tcp/80"))
	news := generate(t, w.Lab, steady(w.Lab))
	for _, n := range w.Nodes {
		w.setAlive(n, false)
	}
	for _, n := range w.Nodes {
		w.told(n, "status is 404")
	}
	wait(t, news)
	first := w.Nodes[2]
	w.setAlive(first, true)
	shareBecomes(t, first, first.Name, func(own int) bool { return own == 1024 })
	wait(t, news)
	for _, n := range w.Nodes {
		w.setAlive(n, true)
	}
	t.Logf("whole again after %v", whole(t, w.Lab, formLimit))
	noFailure(t, "new connections", finish(t, "new connections", news))
}

// All nodes are ill, and of two even the server is gone: the one that passes
// the lighter check answers for all.
func TestTheLighterCheckDecidesWhileAllAreIll(t *testing.T) {
	service := web("sourceip", "tcp/80")
	service.FallbackCheck = map[string]any{"tcp": "127.0.0.1:80", "interval": checkEvery.String(), "fall": 1, "rise": 1}
	w := newWard(t, 3, service)
	last := w.Nodes[2]
	for _, n := range w.Nodes {
		w.setAlive(n, false)
	}
	for _, n := range w.Nodes {
		w.told(n, "status is 404")
	}
	for _, n := range w.Nodes[:2] {
		if err := w.servers[n.Name].Close(); err != nil {
			t.Fatal(err)
		}
	}
	shareBecomes(t, last, last.Name, func(own int) bool { return own == 1024 })
	for _, r := range complete(t, w.Lab, thousand(w.Lab, load.HTTP, webPort)) {
		if r.Node != last.Name {
			t.Errorf("%s was answered by %s", r.Client, r.Node)
		}
	}
	for _, n := range w.Nodes {
		w.setAlive(n, true)
	}
	for _, n := range w.Nodes[:2] {
		w.serve(n)
	}
	t.Logf("whole again after %v", whole(t, w.Lab, formLimit))
}
