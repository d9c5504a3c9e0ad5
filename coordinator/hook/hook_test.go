package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"earshot/coordinator/child"
	"earshot/coordinator/event"
)

// patience is for a machine that is busy with other tests.
const patience = 30 * time.Second

// stage is a running Hooks with a directory for what its programs write.
type stage struct {
	testing.TB
	*Hooks
	hub  event.Hub
	dir  string
	log  *logBuffer
	stop func()
}

// logBuffer may be written to while it is read.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func newStage(t *testing.T, timeout time.Duration, commands map[event.Type]string) *stage {
	s := &stage{TB: t, dir: t.TempDir(), log: &logBuffer{}}
	s.Hooks = &Hooks{Node: "n1", Socket: "/run/x.sock", Runner: &child.Runner{}, Log: slog.New(slog.NewTextHandler(s.log, nil))}
	s.Set(s.commands(timeout, commands))
	l, err := s.hub.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Hooks.Run(ctx, l)
	}()
	s.stop = func() {
		cancel()
		<-done
		l.Close()
	}
	t.Cleanup(s.stop)
	return s
}

// commands are shell scripts with the test's directory as $1.
func (s *stage) commands(timeout time.Duration, scripts map[event.Type]string) Config {
	c := Config{Commands: map[event.Type][]string{}, Timeout: timeout}
	for t, script := range scripts {
		c.Commands[t] = []string{"sh", "-c", script, "sh", s.dir}
	}
	return c
}

func (s *stage) tell(events ...event.Event) { s.hub.Tell(time.Unix(1, 0).UTC(), events) }

// file is what programs have written to a file so far.
func (s *stage) file(name string) string {
	data, _ := os.ReadFile(filepath.Join(s.dir, name))
	return string(data)
}

func (s *stage) eventually(what string, met func() bool) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	for !met() {
		select {
		case <-ctx.Done():
			s.Fatalf("not within %v: %s\n%s", patience, what, s.log)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func gain(node, buckets string) event.Event {
	return event.Event{Type: event.Gain, By: "n1", Node: node, Service: "web", Buckets: buckets, Count: 3, Epoch: 9}
}

func TestFactsOfAHook(t *testing.T) {
	s := newStage(t, patience, map[event.Type]string{event.Gain: `env | grep ^EARSHOT_ | sort >"$1/env"; cat >"$1/stdin"; echo said; mv "$1/env" "$1/done"`})
	e := gain("n1", "0-2")
	e.Reason = "two\nlines, and a zero\x00 byte"
	s.tell(e)
	s.eventually("the hook ran", func() bool { return s.file("done") != "" })
	want := `EARSHOT_BUCKETS=0-2
EARSHOT_COUNT=3
EARSHOT_EPOCH=9
EARSHOT_EVENT=gain
EARSHOT_MISSED=0
EARSHOT_NODE=n1
EARSHOT_REASON=two
EARSHOT_SELF=n1
EARSHOT_SEQ=1
EARSHOT_SERVICE=web
EARSHOT_SOCKET=/run/x.sock
EARSHOT_TIME=1970-01-01T00:00:01Z
`
	if got := s.file("done"); got != want {
		t.Errorf("environment\n%s\nwant\n%s", got, want)
	}
	var got event.Event
	e.Seq, e.Time = 1, time.Unix(1, 0).UTC()
	if err := json.Unmarshal([]byte(s.file("stdin")), &got); err != nil || got != e {
		t.Errorf("on stdin %+v, %v", got, err)
	}
	s.eventually("its output is in the log", func() bool { return strings.Contains(s.log.String(), "output=said") })
}

// What happens to another node's kernel is that node's hook; what happens to a
// node as a member is everybody's.
func TestHooksOfOtherNodes(t *testing.T) {
	s := newStage(t, patience, map[event.Type]string{
		event.Gain: `echo $EARSHOT_NODE >>"$1/gain"`, event.Fail: `echo $EARSHOT_NODE >>"$1/fail"`,
	})
	s.tell(gain("n2", "0"), event.Event{Type: event.Fail, Node: "n2"}, gain("n1", "1"), event.Event{Type: event.Join, Node: "n3"})
	s.eventually("both ran", func() bool { return s.file("gain") != "" && s.file("fail") != "" })
	s.stop()
	if s.file("gain") != "n1\n" || s.file("fail") != "n2\n" {
		t.Errorf("gain %q, fail %q", s.file("gain"), s.file("fail"))
	}
}

// One at a time and in order, and a hook that hangs holds up no other.
func TestOrder(t *testing.T) {
	s := newStage(t, patience, map[event.Type]string{
		event.Gain: `mkdir "$1/busy" || echo twice >>"$1/gain"; echo $EARSHOT_BUCKETS >>"$1/gain"; rmdir "$1/busy"`,
		event.Lose: `while ! [ -e "$1/go" ]; do sleep 0.01; done; echo lost >"$1/lose"`,
	})
	want := ""
	s.tell(event.Event{Type: event.Lose, Node: "n1"})
	for i := range 30 {
		s.tell(gain("n1", fmt.Sprint(i)))
		want += fmt.Sprintln(i)
	}
	s.eventually("all ran", func() bool { return s.file("gain") == want })
	if s.file("lose") != "" {
		t.Error("the hook that hangs has ended")
	}
	if err := os.WriteFile(filepath.Join(s.dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.eventually("it goes on", func() bool { return s.file("lose") != "" })
}

func TestHookThatHangsIsKilled(t *testing.T) {
	s := newStage(t, 300*time.Millisecond, map[event.Type]string{event.Gain: `echo begun; echo $EARSHOT_BUCKETS >>"$1/gain"; sleep 1000`})
	s.tell(gain("n1", "0"), gain("n1", "1"))
	s.eventually("the second began", func() bool { return s.file("gain") == "0\n1\n" })
	s.eventually("the log says so", func() bool {
		return strings.Contains(s.log.String(), "hook=on_gain") && strings.Contains(s.log.String(), "timed out after 300ms") && strings.Contains(s.log.String(), "output=begun")
	})
}

func TestFailuresAreLogged(t *testing.T) {
	s := newStage(t, patience, map[event.Type]string{event.Gain: `exit 3`})
	s.tell(gain("n1", "0"))
	s.eventually("the status is in the log", func() bool { return strings.Contains(s.log.String(), `result="exit status 3"`) })
	s.Set(Config{Commands: map[event.Type][]string{event.Gain: {"/no/such/program"}}, Timeout: patience})
	s.tell(gain("n1", "0"))
	s.eventually("the error is in the log", func() bool {
		return strings.Contains(s.log.String(), "/no/such/program: cannot start: no such file or directory")
	})
}

// A queue that is full costs events, which the hook is told of, and nothing else.
func TestSlowHookMissesEvents(t *testing.T) {
	s := newStage(t, patience, map[event.Type]string{
		event.Gain: `while ! [ -e "$1/go" ]; do sleep 0.01; done; echo $EARSHOT_SEQ $EARSHOT_MISSED >>"$1/gain"`,
	})
	s.tell(gain("n1", "0"))
	s.eventually("the first runs", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		q := s.queues[event.Gain]
		return q != nil && q.busy && len(q.events) == 0
	})
	for range maxQueue + 7 {
		s.tell(gain("n1", "0"))
	}
	s.eventually("the queue is full", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.queues[event.Gain].missed == 7
	})
	if n := strings.Count(s.log.String(), "too slow"); n != 1 {
		t.Errorf("told %d times", n)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.eventually("the last one ran", func() bool { return strings.HasSuffix(s.file("gain"), fmt.Sprintf("%d 7\n", maxQueue+1)) })
	if lines := strings.Count(s.file("gain"), "\n"); lines != maxQueue+1 {
		t.Errorf("%d runs", lines)
	}
}

// The agent's end is that of its hooks.
func TestHooksEndWithTheAgent(t *testing.T) {
	s := newStage(t, time.Hour, map[event.Type]string{event.Gain: `echo $$ >"$1/pid"; exec sleep 1000`})
	s.tell(gain("n1", "0"), gain("n1", "1"))
	s.eventually("it runs", func() bool { return s.file("pid") != "" })
	s.stop()
	pid := strings.TrimSpace(s.file("pid"))
	if stat, err := os.ReadFile("/proc/" + pid + "/stat"); err == nil && !strings.Contains(string(stat), ") Z ") {
		t.Errorf("it runs on: %s", stat)
	}
}

func TestNames(t *testing.T) {
	names := Names()
	if names["on_gain"] != event.Gain || names["on_no_quorum"] != event.NoQuorum || len(names) != len(event.Types())-1 {
		t.Errorf("%v", names)
	}
}
