package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// Parts have names to choose them by, and a line to know them by.
func TestParts(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range parts() {
		if p.name == "" || p.doc == "" || p.run == nil || seen[p.name] || strings.Contains(p.doc, "\n") {
			t.Errorf("part %+v", p)
		}
		seen[p.name] = true
	}
	if chosen, err := choose(parts(), []string{"idle", "start"}); err != nil || len(chosen) != 2 || chosen[0].name != "idle" {
		t.Errorf("%v, %v", chosen, err)
	}
	if _, err := choose(parts(), []string{"no"}); err == nil || !strings.Contains(err.Error(), `unknown part "no" (use start`) {
		t.Error(err)
	}
}

// Wrong use is said so, with the parts that there are.
func TestUsage(t *testing.T) {
	var out bytes.Buffer
	if _, err := parse([]string{"-no"}, &out); err == nil || !strings.Contains(out.String(), "throughput") {
		t.Errorf("%v: %s", err, &out)
	}
	o, err := parse([]string{"-json", "-bin", "x", "idle"}, io.Discard)
	if err != nil || !o.json || o.bin != "x" || len(o.parts) != 1 {
		t.Errorf("%+v, %v", o, err)
	}
}

// A figure that there is not is a dash for people and null for machines.
func TestTable(t *testing.T) {
	table := table{
		Part: "p", Columns: []column{{Name: "rate", Unit: "/s"}, {Name: "÷ x", digits: 2}},
		Rows: []row{{Name: "a", Values: []figure{12345, 0.5}}, {Name: "longer", Values: []figure{7, missing()}}},
	}
	want := "        rate /s   ÷ x\na         12345  0.50\nlonger        7     -"
	if got := strings.Join(table.lines(), "\n"); got != want {
		t.Errorf("\n%s\nwant\n%s", got, want)
	}
	var out bytes.Buffer
	p := &jsonPrinter{w: &out}
	p.facts(facts{Cores: 2})
	p.table(table)
	if err := p.end(); err != nil {
		t.Fatal(err)
	}
	var back struct {
		Facts  struct{ Cores int }
		Tables []struct{ Rows []struct{ Values []*float64 } }
	}
	if err := json.Unmarshal(out.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if v := back.Tables[0].Rows[1].Values; back.Facts.Cores != 2 || *v[0] != 7 || v[1] != nil {
		t.Errorf("%s", &out)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 2, 3}, 2.5}, {[]float64{5}, 5}} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v: %v", c.values, got)
		}
	}
	if !math.IsNaN(median(nil)) {
		t.Error("median of nothing")
	}
}

// Figures from /proc, with a program's name that misleads, and of this process.
func TestUsageOf(t *testing.T) {
	stat := "17 (a) 1 2 b) S 1 17 17 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 9 0 12345 1 2 3"
	cpu, threads, err := parseStat(stat)
	if err != nil || cpu != 2*time.Second || threads != 9 {
		t.Errorf("%v, %d, %v", cpu, threads, err)
	}
	if _, _, err := parseStat("17 (a) S 1"); err == nil {
		t.Error("short text taken")
	}
	rss, pss, err := parseRollup("00-ff ---p 0 [rollup]\nRss:   2048 kB\nPss:   1024 kB\nPss_Dirty: 1 kB\n")
	if err != nil || rss != 2<<20 || pss != 1<<20 {
		t.Errorf("%d, %d, %v", rss, pss, err)
	}
	u, err := usageOf(os.Getpid())
	if err != nil || u.rss < 1<<20 || u.pss > u.rss || u.threads < 1 {
		t.Errorf("%+v, %v", u, err)
	}
}

// The load client counts what a real server answers, and what fails.
func TestAsk(t *testing.T) {
	good := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Earshot-Node", "n7")
		_, _ = io.WriteString(w, "n7\n")
	}))
	defer good.Close()
	bad := httptest.NewServer(http.NotFoundHandler())
	defer bad.Close()
	local := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	for _, keepalive := range []bool{true, false} {
		o := order{Sources: []netip.Addr{local, local}, Keepalive: keepalive, Span: 50 * time.Millisecond}
		o.Target = netip.MustParseAddrPort(good.Listener.Addr().String())
		if a := o.carryOut(); a.Requests == 0 || a.Failed > 0 || a.Nodes["n7"] != a.Requests || a.P50 <= 0 || a.P99 < a.P50 {
			t.Errorf("keepalive %v: %+v", keepalive, a)
		}
		o.Target = netip.MustParseAddrPort(bad.Listener.Addr().String())
		if a := o.carryOut(); a.Requests > 0 || a.Failed == 0 || !strings.Contains(a.Error, "404") {
			t.Errorf("keepalive %v: %+v", keepalive, a)
		}
	}
}

// An answer is read whole, so that the next one begins where it ends.
func TestReadAnswer(t *testing.T) {
	one := "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nX-Earshot-Node: n2\r\n\r\nn2\n"
	in := bufio.NewReader(strings.NewReader(one + one + "HTTP/1.1 200 OK\r\n\r\n"))
	for range 2 {
		if node, err := readAnswer(in); err != nil || node != "n2" {
			t.Fatalf("%q, %v", node, err)
		}
	}
	if _, err := readAnswer(in); err == nil {
		t.Error("answer without a length taken")
	}
}

// Ratios are of rounds, and missing where there is nothing to compare with.
func TestRatio(t *testing.T) {
	if got := ratio([]float64{1, 4, 9}, []float64{1, 2, 3}); got != 2 {
		t.Error(got)
	}
	if got := ratio([]float64{1}, nil); !math.IsNaN(float64(got)) {
		t.Error(got)
	}
}

// One bucket counts once, and only for the questions of this round.
func TestSweepNotes(t *testing.T) {
	s := &sweep{answered: make([]bool, 64)}
	s.reset()
	if _, due := s.due(); len(due) != 2 {
		t.Errorf("scouts ask in %v", due)
	}
	s.note(s.id, 3)
	s.note(s.id, 3)
	s.note(s.id-1, 4)
	s.note(s.id, 64)
	if _, due := s.due(); s.total() != 1 || len(due) != 63 {
		t.Errorf("%d answered, %d due", s.total(), len(due))
	}
}

// Foreign frames are held against the bare drop at the same hook, own ones
// against no rules, round by round; a way that was left out is a gap.
func TestFrameTable(t *testing.T) {
	f := &frameLab{ways: []*frameWay{
		{name: wayIngressDrop, took: [frameKinds][]float64{foreignFrames: {100, 200, 300}}},
		{name: wayNothing, took: [frameKinds][]float64{ownFrames: {500, 500, 500}}},
		{name: wayMangleDrop, took: [frameKinds][]float64{foreignFrames: {150, 250, 350}}},
		{name: wayXTCluster, base: wayMangleDrop, took: [frameKinds][]float64{foreignFrames: {350, 450, 560}, ownFrames: {700, 900, 800}}},
		{name: wayEarshot, base: wayIngressDrop, took: [frameKinds][]float64{foreignFrames: {150, 250, 370}, ownFrames: {600, 600, 600}}},
	}}
	rows := f.table().Rows
	if len(rows) != 2 || rows[0].Name != wayXTCluster || rows[1].Name != wayEarshot {
		t.Fatalf("%+v", rows)
	}
	if got := rows[0].Values; got[0] != 200 || got[1] != 1 || got[2] != 250 || got[3] != 300 {
		t.Errorf("xt_cluster: %v", got)
	}
	if got := rows[1].Values; got[0] != 50 || got[1] != 0.25 || got[2] != 50 || got[3] != 100 {
		t.Errorf("Earshot: %v", got)
	}
	f.ways = slices.DeleteFunc(f.ways, func(w *frameWay) bool { return w.name == wayXTCluster })
	if got := f.table().Rows[0].Values[1]; !math.IsNaN(float64(got)) {
		t.Errorf("compared with what was not measured: %v", got)
	}
}
