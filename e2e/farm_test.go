package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"earshot/e2e/lab"
	"earshot/e2e/load"
)

// flaskFarm is a server that answers one request at a time, and takes five
// seconds for it.
const flaskFarm = `
import sys, time
from flask import Flask
name = sys.argv[1]
app = Flask(__name__)

@app.route("/")
def slow():
    time.sleep(5)
    return name + "\n", {"X-Earshot-Node": name}

app.run(host="0.0.0.0", port=80, threaded=False)
`

// nodeCluster is a Node.js application of two workers, which it starts again
// when they die. While the file exists that its last argument names, they do
// so at once.
const nodeCluster = `
const cluster = require('cluster'), http = require('http'), fs = require('fs')
const [name, broken] = process.argv.slice(2)
if (cluster.isPrimary) {
  for (let i = 0; i < 2; i++) cluster.fork()
  cluster.on('exit', () => setTimeout(() => cluster.fork(), 100))
} else {
  if (fs.existsSync(broken)) process.exit(1)
  http.createServer((req, res) => {
    if (req.url === '/crash') process.exit(1)
    res.setHeader('X-Earshot-Node', name)
    res.end(name + '\n')
  }).listen(80, '0.0.0.0')
}
`

// runtimeFor finds a program that can run something, or skips the test loudly.
func runtimeFor(t *testing.T, what, install string, candidates []string, args ...string) string {
	t.Helper()
	for _, name := range candidates {
		path, err := exec.LookPath(name)
		if err == nil && exec.Command(path, args...).Run() == nil {
			return path
		}
	}
	t.Skipf("%s IS MISSING, THIS STORY IS NOT TOLD: %s", what, install)
	return ""
}

// farm makes a cluster whose nodes run a program as their server.
func farm(t *testing.T, nodes int, service lab.Service, command func(*lab.Node) lab.Command) (*lab.Lab, map[string]*lab.Process) {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	l := lab.Start(t, lab.Options{Nodes: nodes, Clients: 1, Lease: storyLease, Bin: bin, Services: map[string]lab.Service{"web": service}})
	servers := map[string]*lab.Process{}
	for _, n := range l.Nodes {
		if servers[n.Name], err = n.Namespace.Start(command(n)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range l.Nodes {
				text, _ := os.ReadFile(n.Path("server.log")) // may be missing
				t.Logf("server of %s:\n%s", n.Name, text)
			}
		}
	})
	for _, n := range l.Nodes {
		lab.Eventually(t, serverLimit, "server of "+n.Name+" takes connections", func() error {
			conn, err := dialLocal(n)
			if err == nil {
				conn.Close()
			}
			return err
		})
	}
	if err := l.StartAll(); err != nil {
		t.Fatal(err)
	}
	t.Logf("from the start to every bucket answered: %v", whole(t, l, formLimit))
	return l, servers
}

// serverLimit is for an interpreter to start, on a busy machine.
const serverLimit = time.Minute

// dialLocal connects to a node's own server.
func dialLocal(n *lab.Node) (conn net.Conn, err error) {
	doing := n.Do(func() error {
		conn, err = (&net.Dialer{Timeout: 5 * time.Second}).DialContext(context.Background(), "tcp", "127.0.0.1:80")
		return nil
	})
	return conn, errors.Join(doing, err)
}

// script writes a program's text to a file of the node.
func script(t *testing.T, n *lab.Node, name, text string) string {
	t.Helper()
	if err := os.WriteFile(n.Path(name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return n.Path(name)
}

// The seeds' farm: six single-threaded servers that take five seconds for each
// answer. Together they answer six at a time. Busy is not ill; dead is, and then
// the others answer.
func TestAFarmOfSlowFlaskServers(t *testing.T) {
	longStory(t)
	python := runtimeFor(t, "FLASK", "apt-get install python3-flask", []string{"python3", "/usr/bin/python3"}, "-c", "import flask")
	service := web("sourceip", "tcp/80")
	service.OnFail = "cut"
	service.Check = map[string]any{"tcp": "127.0.0.1:80", "interval": "200ms"}
	l, servers := farm(t, 6, service, func(n *lab.Node) lab.Command {
		return lab.Command{Path: python, Args: []string{script(t, n, "farm.py", flaskFarm), n.Name}, Log: n.Path("server.log")}
	})
	owners, spec := ownersOf(t, l.Nodes[0], "web"), ask(t, l.Nodes[0]).service("web")
	one := map[string]netip.Addr{} // a client of each node
	for i := 0; len(one) < len(l.Nodes); i++ {
		source := l.Clients[0].Source(i)
		one[spec.expect(owners, netip.AddrPortFrom(source, 0), webPort)] = source
	}
	round := func(what string) map[netip.Addr]load.Record {
		p := steady(l)
		p.Sources, p.Rate, p.Count, p.Timeout = nil, 1000, len(one), time.Minute
		for _, source := range one {
			p.Sources = append(p.Sources, source)
		}
		began := time.Now()
		records := complete(t, l, p)
		t.Logf("%s: %d answers of five seconds in %v", what, len(records), time.Since(began))
		by := map[netip.Addr]load.Record{}
		for _, r := range records {
			by[r.Client.Addr()] = r
		}
		return by
	}
	for source, r := range round("six nodes") {
		if want := spec.expect(owners, netip.AddrPortFrom(source, 0), webPort); r.Node != want {
			t.Errorf("%s was answered by %q, not by %s", source, r.Node, want)
		}
	}
	if after := ownersOf(t, l.Nodes[0], "web"); fmt.Sprint(after) != fmt.Sprint(owners) {
		t.Error("buckets have moved: to be busy was taken for an illness")
	}
	dead := l.Nodes[5]
	if err := servers[dead.Name].Kill(); err != nil {
		t.Fatal(err)
	}
	shareBecomes(t, l.Nodes[0], dead.Name, func(own int) bool { return own == 0 })
	for source, r := range round("five nodes") {
		if was := spec.expect(owners, netip.AddrPortFrom(source, 0), webPort); r.Node == dead.Name || was != dead.Name && r.Node != was {
			t.Errorf("%s was answered by %q, before by %s", source, r.Node, was)
		}
	}
}

// A Node.js application of several workers. One that crashes is its
// application's affair: nothing moves. An application whose workers all crash
// takes connections and answers nobody: it is ill, and others answer.
func TestANodeJSClusterWithCrashingWorkers(t *testing.T) {
	longStory(t)
	node := runtimeFor(t, "NODE.JS", "apt-get install nodejs", []string{"node", "nodejs"}, "--version")
	service := web("sourceip", "tcp/80")
	service.OnFail = "cut"
	service.Check = map[string]any{"http": "http://127.0.0.1/", "expect": "n", "interval": "500ms", "timeout": "5s"}
	l, _ := farm(t, 3, service, func(n *lab.Node) lab.Command {
		return lab.Command{Path: node, Args: []string{script(t, n, "farm.js", nodeCluster), n.Name, n.Path("broken")}, Log: n.Path("server.log")}
	})
	weak, operator := l.Nodes[0], l.Nodes[1]
	owners, spec := ownersOf(t, operator, "web"), ask(t, operator).service("web")
	p := steady(l)
	p.Rate, p.Timeout = 50, time.Minute // an interpreter, on a busy machine
	news := generate(t, l, p)
	more := func() {
		t.Helper()
		if err := news.AwaitMore(100, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	more()
	lab.Eventually(t, serverLimit, "a worker crashes", func() error { return crash(weak) })
	more()
	if after := ownersOf(t, operator, "web"); fmt.Sprint(after) != fmt.Sprint(owners) {
		t.Error("buckets have moved: one worker's crash was taken for an illness")
	}

	script(t, weak, "broken", "")
	// Both workers: none comes back now.
	lab.Eventually(t, serverLimit, "no worker is left, and others have the buckets", func() error {
		_ = crash(weak) // fails when none is left
		s, err := statusOf(operator)
		if err != nil {
			return err
		}
		if own := s.service("web").owned(weak.Name); own > 0 {
			return fmt.Errorf("%s owns %d buckets", weak.Name, own)
		}
		return nil
	})
	moved := time.Now()
	more()
	if err := os.Remove(weak.Path("broken")); err != nil {
		t.Fatal(err)
	}
	t.Logf("whole again after %v", whole(t, l, serverLimit))
	for _, r := range finish(t, "new connections", news) {
		switch theirs := spec.expect(owners, r.Client, webPort) == weak.Name; {
		case r.Failure == "":
		case !theirs:
			t.Errorf("%s, a client of another node: %s %s", r.Client, r.Failure, r.Detail)
		case r.Start.After(moved):
			t.Errorf("%s, %v after the move: %s %s", r.Client, r.Start.Sub(moved), r.Failure, r.Detail)
		}
	}
}

// crash makes one worker of a node's application crash, if one is there.
func crash(n *lab.Node) error {
	conn, err := dialLocal(n)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "GET /crash HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return err
	}
	if got, err := io.ReadAll(conn); err == nil && len(got) > 0 {
		return fmt.Errorf("answered: %q", got)
	}
	return nil
}
