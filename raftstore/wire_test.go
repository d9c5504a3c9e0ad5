package raftstore

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// paper is a log that can be read.
type paper struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (p *paper) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *paper) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

func (p *paper) logger() *slog.Logger { return slog.New(slog.NewTextHandler(p, nil)) }

func TestKeys(t *testing.T) {
	key := GenerateKey()
	if again, err := ParseKey(key.Text() + "\n"); err != nil || again != key {
		t.Errorf("a generated key is read back as %v, %v", again, err)
	}
	if shown := fmt.Sprintf("%v %+v %#v %s", key, Options{Key: key}, key, key); strings.Contains(shown, key.Text()) {
		t.Errorf("a key shows itself: %s", shown)
	}
	for _, text := range []string{"", " \n", "short", strings.Repeat("a", 64), strings.Repeat("ab", 32), key.Text() + "\n" + key.Text()} {
		if _, err := ParseKey(text); !errors.Is(err, ErrKey) {
			t.Errorf("key %q: %v", text, err)
		}
	}
}

func TestKeyFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if _, err := ReadKeyFile(path); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("no key file: %v", err)
	}
	key := GenerateKey()
	for mode, want := range map[os.FileMode]error{0o600: nil, 0o400: nil, 0o640: ErrKey, 0o604: ErrKey} {
		if err := errors.Join(os.RemoveAll(path), os.WriteFile(path, []byte(key.Text()), mode)); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKeyFile(path); !errors.Is(err, want) || err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("key file of mode %o: %v", mode, err)
		}
	}
}

func TestAnotherKeyIsNamedOnBothSides(t *testing.T) {
	var theirs, ours paper
	first := newNode(t, GenerateKey(), "n1", free(t))
	first.options.Log = theirs.logger()
	settle(t, []*node{first.start()})
	second := newNode(t, GenerateKey(), "n2", free(t), first.Addr())
	second.options.Log = ours.logger()
	if err := second.start().wait(); !errors.Is(err, ErrWrongKey) || !strings.Contains(err.Error(), "peer "+first.Addr()+" has another cluster key") {
		t.Errorf("a node with another key ends with %v", err)
	}
	until(t, "the line on the other side", func() bool {
		return strings.Contains(theirs.String(), "peer 127.0.0.1 has another cluster key")
	})
	if n := strings.Count(theirs.String(), "another cluster key"); n != 1 {
		t.Errorf("%d lines for one peer:\n%s", n, theirs.String())
	}
	if n := strings.Count(ours.String(), "another cluster key"); n > 2 {
		t.Errorf("%d lines for one peer:\n%s", n, ours.String())
	}
}

// I7: bad bytes and half-open connections cost no more than a log line.
func TestI7StrangersAtThePort(t *testing.T) {
	var log paper
	n := newNode(t, GenerateKey(), "n1", free(t))
	n.options.Log = log.logger()
	settle(t, []*node{n.start()})
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for i := range 300 {
		c, err := net.Dial("tcp", n.Addr())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c) // most say nothing at all
		if i%3 == 0 {
			fmt.Fprintf(c, "GET / HTTP/1.1\r\n\r\n%d", i)
		}
	}
	n.port.mu.Lock()
	pending := n.port.pending
	n.port.mu.Unlock()
	if pending > handshakesEach {
		t.Errorf("%d connections without a key, limit %d", pending, handshakesEach)
	}
	until(t, "an end of the silent ones", func() bool {
		n.port.mu.Lock()
		defer n.port.mu.Unlock()
		return n.port.pending == 0 && len(n.port.waiting) == 0
	})
	if _, err := n.greet(t.Context(), n.Addr()); err != nil {
		t.Errorf("a peer after the flood: %v", err)
	}
	if lines := strings.Count(log.String(), "\n"); lines > 10 {
		t.Errorf("%d log lines:\n%s", lines, log.String())
	}
}

func TestNoAccessWithoutTheKey(t *testing.T) {
	n := newNode(t, GenerateKey(), "n1", free(t)).start()
	settle(t, []*node{n})
	for _, proto := range []string{protoRaft, protoPeer, "h2", ""} {
		config := &tls.Config{InsecureSkipVerify: true, ServerName: anyServer, NextProtos: []string{proto}}
		if proto == "" {
			config.NextProtos = nil
		}
		c, err := tls.Dial("tcp", n.Addr(), config)
		if err != nil {
			continue
		}
		// TLS 1.3 tells the client of its refusal on the first read.
		if err := c.SetDeadline(time.Now().Add(patient)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", pathHello)
		if got, err := io.ReadAll(c); len(got) > 0 || err == nil {
			t.Errorf("by %q a stranger reads %q, %v", proto, got, err)
		}
		c.Close()
	}
}

func TestThePeerAPIKnowsWhoAsks(t *testing.T) {
	key := GenerateKey()
	n := newNode(t, key, "n1", free(t))
	n.hooks.API = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, PeerName(r), " asks ", r.URL.Path) })
	settle(t, []*node{n.start()})
	i, err := newIdentity(key, "n7", "id")
	if err != nil {
		t.Fatal(err)
	}
	client := (&dialer{identity: i, timeout: patient}).client()
	defer client.CloseIdleConnections()
	for path, want := range map[string]string{"/lease": "n7 asks /lease", "/form/other": "404 page not found\n"} {
		answer, err := client.Get("https://" + n.Addr() + path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
}

// Certificates hold whatever the clocks say, which is why there is no clock in
// their verification.
func TestCertificatesDoNotKnowTheTime(t *testing.T) {
	i, err := newIdentity(GenerateKey(), "n1", "id")
	if err != nil {
		t.Fatal(err)
	}
	for _, config := range []*tls.Config{i.server(), i.client(protoPeer, anyServer)} {
		if now := config.Time(); now.Before(i.cert.Leaf.NotBefore) || now.After(i.cert.Leaf.NotAfter) {
			t.Errorf("judged at %s: %s – %s", now, i.cert.Leaf.NotBefore, i.cert.Leaf.NotAfter)
		}
	}
}

func TestNotesAreFew(t *testing.T) {
	n := newNotes(slog.New(slog.DiscardHandler))
	now := time.Now()
	if _, ok := n.due("a", now); !ok {
		t.Error("the first note is not logged")
	}
	for range 5 {
		if _, ok := n.due("a", now.Add(noteEvery/2)); ok {
			t.Error("a second note is logged at once")
		}
	}
	if skipped, ok := n.due("a", now.Add(noteEvery)); !ok || skipped != 5 {
		t.Errorf("after a while: %d not logged, %v", skipped, ok)
	}
	for i := range 10 * noteKinds {
		n.due(fmt.Sprint(i), now)
	}
	if len(n.last) > noteKinds {
		t.Errorf("%d kinds are remembered", len(n.last))
	}
}

func TestRaftsChatterIsDebug(t *testing.T) {
	for _, c := range []struct {
		from    hclog.Level
		message string
		want    slog.Level
	}{
		{hclog.Info, "entering leader state", slog.LevelDebug},
		{hclog.Warn, "heartbeat timeout reached, starting election", slog.LevelDebug},
		{hclog.Error, "failed to heartbeat to", slog.LevelDebug},
		{hclog.Error, "failed to commit logs", slog.LevelWarn},
	} {
		if got := level(c.from, c.message); got != c.want {
			t.Errorf("%s %q is logged at %s, not %s", c.from, c.message, got, c.want)
		}
	}
	var p paper
	l := (&raftLog{log: p.logger()}).With("a", 1).Named("x")
	l.Error("failed to commit logs", "servers", hclog.Fmt("%d-%d", 1, 2))
	if got := p.String(); !strings.Contains(got, `level=WARN msg="raft: failed to commit logs" a=1 servers=1-2`) {
		t.Errorf("logged: %s", got)
	}
}

// A heartbeat of a newer term must wait for Raft's main goroutine: taken
// behind its back, it makes a second leader of that term out of a candidate
// whose last vote is still on its way, and has a deposed leader write entries
// of a term that is another's.
func TestHeartbeatsThatChangeTheTermDoNotPassBy(t *testing.T) {
	n := newNode(t, GenerateKey(), "n1", free(t)).start()
	settle(t, []*node{n})
	r := n.raft()
	passed := false
	tr := carriedBy(nil, nil, time.Second)
	tr.calls, tr.handle = make(chan raft.RPC, 1), func(raft.RPC) { passed = true }
	beat := func(term uint64) bool {
		passed = false
		tr.heartbeat(raft.RPC{Command: &raft.AppendEntriesRequest{Term: term}, RespChan: make(chan raft.RPCResponse, 1)})
		if !passed {
			<-tr.calls
		}
		return passed
	}
	if beat(r.CurrentTerm()) {
		t.Error("passed by while Raft was not known yet")
	}
	tr.raft.Store(r)
	if beat(r.CurrentTerm()) || beat(r.CurrentTerm()+1) {
		t.Error("passed by a leader")
	}
	// Without its quorum it cannot lead again.
	if err := n.AddServer(t.Context(), Server{ID: "ghost", Addr: "127.0.0.1:1", Voter: true}); err != nil {
		t.Fatal(err)
	}
	until(t, "a follower or candidate", func() bool { return r.State() != raft.Leader })
	until(t, "a heartbeat that passes by a follower", func() bool { return r.State() == raft.Follower && beat(r.CurrentTerm()) })
	if beat(r.CurrentTerm() + 1) {
		t.Error("a newer term passed by")
	}
}

func TestAdmit(t *testing.T) {
	state := NewState()
	state.Nodes["n1"] = Node{Name: "n1", ServerID: "id1", Listen: at(1), Weight: 1}
	state.Nodes["n2"] = Node{Name: "n2", ServerID: "id2", Listen: at(2), Weight: 1}
	state.Nodes["n4"] = Node{Name: "n4", ServerID: "id4", Listen: at(4), Weight: 1}
	state.Nodes["n5"] = Node{Name: "n5", ServerID: "id5", Listen: at(5), Weight: 1, Failed: true}
	two := []Server{{"id1", at(1), true}, {"id2", at(2), true}}
	oneDead := append([]Server{{"id5", at(5), true}}, two...)
	oneDeadOfFour := append([]Server{{"id4", at(4), true}}, oneDead...)
	servers := append([]Server{{"ghost", at(9), true}}, two...)
	five := append([]Server{{"x", at(7), true}, {"y", at(8), true}}, servers...)
	r := func(name, id, listen string, weight int) request {
		return request{Join: Join{Name: name, ServerID: id, Listen: listen, Weight: weight}}
	}
	resumed := r("n2", "old", at(2), 1)
	resumed.Resumed = true
	for _, c := range []struct {
		name    string
		servers []Server
		request request
		want    admission
		err     error
	}{
		{"a new node", two, r("n3", "id3", at(3), 1), admission{add: true, vote: true, propose: true}, nil},
		{"a new node while one of three voters is dead", oneDead, r("n3", "id3", at(3), 1), admission{add: true, propose: true}, nil},
		{"a new node while one of four voters is dead", oneDeadOfFour, r("n3", "id3", at(3), 1), admission{add: true, vote: true, propose: true}, nil},
		{"a new node beside one that is no member yet", servers, r("n3", "id3", at(3), 1), admission{add: true, vote: true, propose: true}, nil},
		{"a sixth", five, r("n3", "id3", at(3), 1), admission{add: true, propose: true}, nil},
		{"again", servers, r("n2", "id2", at(2), 1), admission{vote: true}, nil},
		{"another weight", servers, r("n2", "id2", at(2), 4), admission{vote: true, propose: true}, nil},
		{"another address", servers, r("n2", "id2", at(6), 1), admission{add: true, vote: true, propose: true}, nil},
		{"a wiped disk", two, r("n2", "id7", at(2), 1), admission{ask: true, remove: []string{"id2"}, add: true, vote: true, propose: true}, nil},
		{"a wiped disk of five voters", five, r("n2", "id7", at(2), 1), admission{ask: true, remove: []string{"id2"}, add: true, vote: true, propose: true}, nil},
		{"at the address of one that never was a member", servers, r("n3", "id3", at(9), 1), admission{remove: []string{"ghost"}, add: true, vote: true, propose: true}, nil},
		{"replaced", servers, resumed, admission{}, ErrReplaced},
		{"at another's address", servers, r("n3", "id3", at(1), 1), admission{}, ErrAddressTaken},
		{"with another's disk", servers, r("n3", "id1", at(3), 1), admission{}, ErrOtherNode},
	} {
		got, err := admit(state, c.servers, c.request)
		if !errors.Is(err, c.err) || err == nil && fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %+v, %v, want %+v, %v", c.name, got, err, c.want, c.err)
		}
	}
}
