package e2e

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"earshot/e2e/lab"
	"earshot/e2e/load"
	"earshot/hashmode"
)

const (
	clients = 1000 // of each mode and protocol
	sample  = 50   // of them asked about with `earshot which`
)

// In every hash mode the node that answers is the one that the map names, and
// each client is answered once: TCP, UDP and ICMP echo.
func TestTheNamedNodeAnswersAndNoOther(t *testing.T) {
	for _, mode := range hashmode.Modes() {
		t.Run(string(mode), func(t *testing.T) {
			l := newCluster(t, lab.Options{Nodes: 3, Services: webAndEcho(string(mode))})
			t.Run("tcp", func(t *testing.T) { tcpIsAnswered(t, l) })
			t.Run("udp", func(t *testing.T) { udpIsAnswered(t, l) })
			t.Run("icmp", func(t *testing.T) { icmpIsAnswered(t, l) })
		})
	}
}

// thousand is one question of each of a thousand clients.
func thousand(l *lab.Lab, kind load.Kind, port uint16) load.Plan {
	p := steady(l)
	p.Kind, p.Target, p.Count, p.Rate = kind, netip.AddrPortFrom(serviceAddr, port), clients, 1000
	p.Sources = l.Clients[0].SourcesApart(clients) // of 256 networks
	return p
}

// complete waits for a plan with a count; every question must be answered.
func complete(t *testing.T, l *lab.Lab, p load.Plan) load.Records {
	t.Helper()
	records, err := generate(t, l, p).Wait()
	if err != nil {
		t.Fatal(err)
	}
	t.Log(records.Summary())
	noFailure(t, string(p.Kind), records)
	return records
}

func tcpIsAnswered(t *testing.T, l *lab.Lab) {
	w := watch(t, l)
	service := ask(t, l.Nodes[0]).service("web")
	owners := ownersOf(t, l.Nodes[0], "web")
	records := complete(t, l, thousand(l, load.HTTP, webPort))
	everyNode(t, l, answeredOnce(t, w, load.TCP))
	for i, r := range records {
		want := service.expect(owners, r.Client, webPort)
		if r.Node != want {
			t.Errorf("%s: answered by %s, not by %s", r.Client, r.Node, want)
		}
		if i < sample {
			named(t, l.Nodes[i%len(l.Nodes)], "web", r.Client, want)
		}
	}
}

func udpIsAnswered(t *testing.T, l *lab.Lab) {
	w := watch(t, l)
	service := ask(t, l.Nodes[0]).service("echo")
	owners := ownersOf(t, l.Nodes[0], "echo")
	records := complete(t, l, thousand(l, load.UDP, echoPort))
	everyNode(t, l, answeredOnce(t, w, load.Datagram))
	for i, r := range records {
		want := service.expect(owners, r.Client, echoPort)
		if r.Node != want || r.Answers != 1 {
			t.Errorf("%s: %d answers, by %s, not by %s", r.Client, r.Answers, r.Node, want)
		}
		if i < sample {
			named(t, l.Nodes[i%len(l.Nodes)], "echo", r.Client, want)
		}
	}
}

// An echo request has no port: the address's first service decides by the
// source alone (P22).
func icmpIsAnswered(t *testing.T, l *lab.Lab) {
	w := watch(t, l)
	service := ask(t, l.Nodes[0]).service("echo")
	owners := ownersOf(t, l.Nodes[0], "echo")
	p := thousand(l, load.ICMP, 0)
	records := complete(t, l, p)
	everyNode(t, l, answeredOnce(t, w, load.Echo))
	for _, r := range records {
		want := service.expectBySource(owners, r.Client.Addr())
		if who, ok := w.Answerer(load.Echo, r.Client, p.Target); !ok || who != want || r.Answers != 1 {
			t.Errorf("%s: %d answers, by %q, not by %s", r.Client.Addr(), r.Answers, who, want)
		}
	}
}

// everyNode demands that all nodes took part, else the test shows nothing.
func everyNode(t *testing.T, l *lab.Lab, v load.Verdict) {
	t.Helper()
	for _, n := range l.Nodes {
		if v.Nodes[n.Name] == 0 {
			t.Errorf("%s answered nobody: %v", n.Name, v.Nodes)
		}
	}
	if v.Unanswered > 0 {
		t.Errorf("%d of %d questions unanswered", v.Unanswered, v.Asked)
	}
}

// named demands that `earshot which` names the node, for people and in JSON.
func named(t *testing.T, n *lab.Node, service string, client netip.AddrPort, want string) {
	t.Helper()
	args := []string{"which", service, client.String()}
	if text := command(t, n, args...); !strings.HasPrefix(text, want+" ") {
		t.Errorf("which %s %s: want %s, got %q", service, client, want, text)
	}
	var which struct {
		Bucket *int   `json:"bucket"`
		Node   string `json:"node"`
	}
	text := command(t, n, append(args, "--json")...)
	if err := json.Unmarshal([]byte(text), &which); err != nil || which.Bucket == nil || which.Node != want {
		t.Errorf("which %s %s --json: want %s, got %q, %v", service, client, want, text, err)
	}
}
