package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"earshot/e2e/lab"
	"earshot/e2e/load"
)

// picture is a frame with everything in it.
func picture() frame {
	return frame{
		step:    step{act: act{name: "earshot out n2"}, typed: "earshot out n2", words: "Its buckets move."},
		elapsed: 12 * time.Second,
		nodes:   []nodeRow{{name: "n1", share: 1, rate: 300, open: 60}, {name: "n2", mark: "no power"}},
		acts:    []act{{name: "all three answer"}, {name: "earshot out n2"}},
		counts: []count{
			{requests: 12345, slowest: time.Millisecond},
			{requests: 12345, waited: 123, slowest: 1020 * time.Millisecond, failures: map[load.Failure]int{load.Reset: 21}},
		},
	}
}

// The screen fits 80 columns and 24 rows.
func TestFrameFits(t *testing.T) {
	f := picture()
	for len(f.acts) < 5 {
		f.acts, f.counts = append(f.acts, f.acts[1]), append(f.counts, f.counts[1])
	}
	f.nodes = append(f.nodes, f.nodes[1])
	lines := f.lines(palette{full: "█", empty: "░"})
	for _, line := range lines {
		if utf8.RuneCountInString(line) > 80 {
			t.Errorf("%d columns: %s", utf8.RuneCountInString(line), line)
		}
	}
	if len(lines) >= 24 {
		t.Errorf("%d rows", len(lines))
	}
}

// What every act says fits, too.
func TestWordsFit(t *testing.T) {
	s := story{cast: &cast{Lab: &lab.Lab{}, away: node("n3"), victim: node("n1")}}
	for _, p := range s.steps() {
		if len(p.words) > 78 || len(p.name) > 20 {
			t.Errorf("too long: %q, %q", p.name, p.words)
		}
	}
	s.begun = time.Now()
	for _, line := range s.closing() {
		if len(line) > 80 {
			t.Errorf("too long: %q", line)
		}
	}
}

// Off the terminal there is no control sequence and no frame twice a second.
func TestPlain(t *testing.T) {
	var out bytes.Buffer
	d := &display{w: &out, palette: palette{full: "#", empty: "."}}
	d.act(picture().step)
	d.frame(picture())
	d.frame(picture())
	d.summary(picture().acts, picture().counts, []string{"", "after 3 ms"})
	text := out.String()
	if strings.Contains(text, "\x1b") || strings.Count(text, "n1 100 %") != 1 || !strings.Contains(text, "$ earshot out n2") {
		t.Errorf("%s", text)
	}
}

// On the terminal a frame takes the place of the one before.
func TestScreenIsRedrawn(t *testing.T) {
	var out bytes.Buffer
	d := &display{w: &out, screen: true, palette: palette{color: true, full: "#", empty: "."}}
	d.size = func() (int, int) { return 80, 40 }
	d.frame(picture())
	if strings.Contains(out.String(), "A") && strings.HasPrefix(out.String(), "\x1b[") {
		t.Errorf("first frame moves up: %q", out.String())
	}
	out.Reset()
	d.frame(picture())
	if !strings.HasPrefix(out.String(), "\x1b[13A\r") {
		t.Errorf("second frame: %q", out.String())
	}
}

// A line is cut by what is seen of it.
func TestCut(t *testing.T) {
	if got := cut("\x1b[1mabc\x1b[0mdef", 4); got != "\x1b[1mabc\x1b[0md" {
		t.Errorf("%q", got)
	}
}

// The hint names the settings that stand in the way, and only those.
func TestWayOut(t *testing.T) {
	settings := map[string]string{"user.max_user_namespaces": "0", "kernel.unprivileged_userns_clone": "1"}
	hint := wayOut(false, func(name string) string { return settings[name] })
	if !strings.Contains(hint, "sysctl user.max_user_namespaces=10000") || strings.Contains(hint, "unprivileged_userns_clone") {
		t.Error(hint)
	}
	if hint := wayOut(true, func(string) string { return "" }); !strings.Contains(hint, "CAP_SYS_ADMIN") {
		t.Error(hint)
	}
}

// node is a node by name alone.
func node(name string) *lab.Node { return &lab.Node{Namespace: &lab.Namespace{Name: name}} }
