package nft

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"earshot/hashmode"
)

var update = flag.Bool("update", false, "write the golden files")

// text writes a plan as nft would read it.
func (p plan) text() string {
	var out strings.Builder
	for _, t := range p.tables {
		fmt.Fprintf(&out, "table %s %s {\n", familyName(t.family), TableName)
		for _, s := range t.sets {
			fmt.Fprintf(&out, "\tset %s {%s\n\t\ttype %s\n", s.name, comment(s.comment), setType(s))
			if s.timeout {
				out.WriteString("\t\tflags timeout\n")
			}
			if s.counter {
				out.WriteString("\t\tcounter\n")
			}
			if s.size > 0 {
				fmt.Fprintf(&out, "\t\tsize %d\n", s.size)
			}
			if b, ok := p.contents.buckets[setID{t.family, s.name}]; ok {
				fmt.Fprintf(&out, "\t\telements = { %s }\n", b)
			}
			out.WriteString("\t}\n")
		}
		for _, c := range t.chains {
			fmt.Fprintf(&out, "\tchain %s {\n", c.name)
			if c.hook != nil {
				fmt.Fprintf(&out, "\t\ttype filter hook %s device %q priority %d; policy accept;\n", c.hook.name, c.hook.device, c.hook.priority)
			}
			for _, r := range c.rules {
				fmt.Fprintf(&out, "\t\t%s\n", r.text())
			}
			out.WriteString("\t}\n")
		}
		out.WriteString("}\n")
	}
	return out.String()
}

func comment(s string) string {
	if s == "" {
		return ""
	}
	return " # " + s
}

func setType(s set) string { return s.key.Name }

// examples are the rulesets of the golden files.
func examples() map[string]Ruleset {
	tls := web(buckets(0, 3), hashmode.Set{}, hashmode.Set{})
	tls.Name, tls.Ports, tls.Hash.Mode = "tls", []Port{{TCP, 443}}, hashmode.SourceIPSourcePortDestPort
	byNet, byNet6 := web(buckets(0, 7), buckets(8, 9), buckets(10, 11)), webOf(true, buckets(4, 7), hashmode.Set{}, hashmode.Set{})
	byNet.Hash.Mode, byNet.Hash.Prefix = hashmode.SourceNet, 24
	byNet6.Hash.Mode, byNet6.Hash.Prefix = hashmode.SourceNet, 56
	return map[string]Ruleset{
		"network":  {Index: 11, Services: []Service{byNet, byNet6}},
		"empty":    {Index: 1},
		"one":      {Index: 5, Services: []Service{web(buckets(0, 7), buckets(8, 9), buckets(10, 11))}},
		"everyone": {Index: 6, Services: []Service{other()}},
		"both":     {Index: 8, Services: []Service{web(buckets(0, 7), buckets(8, 9), buckets(10, 11)), stealthy(webOf(true, buckets(4, 7), hashmode.Set{}, hashmode.Set{}))}},
		"stealth":  {Index: 10, Services: []Service{stealthy(other())}},
		"six":      {Index: 9, Services: []Service{webOf(true, buckets(0, 7), buckets(8, 9), buckets(10, 11))}},
		"hold":     {Index: 11, Hold: true, Services: []Service{holding(web(buckets(0, 7), buckets(8, 9), buckets(10, 11))), holding(webOf(true, buckets(4, 7), hashmode.Set{}, hashmode.Set{}))}},
		"refuse":   {Index: 12, Services: []Service{refusing(holding(web(buckets(0, 7), buckets(8, 9), buckets(10, 11)))), refusing(other()), webOf(true, buckets(4, 7), hashmode.Set{}, hashmode.Set{})}},
		"count":    {Index: 13, Services: []Service{countingNew(holding(web(buckets(0, 7), buckets(8, 9), buckets(10, 11)))), countingNew(other()), webOf(true, buckets(4, 7), hashmode.Set{}, hashmode.Set{})}},
		"several":  {Index: 7, Services: []Service{other(), web(buckets(0, 7), buckets(8, 9), buckets(10, 11)), tls}},
	}
}

func TestGoldenRuleset(t *testing.T) {
	for name, rs := range examples() {
		t.Run(name, func(t *testing.T) { golden(t, name, rs, QueueTarget) })
	}
	t.Run("queue", func(t *testing.T) { golden(t, "queue", examples()["hold"], QueueExpression) })
}

// Without a queue nothing is held: of a bucket to take, what is known passes,
// as of one to drain.
func TestNoQueueHoldsNothing(t *testing.T) {
	rs := examples()["hold"]
	got, err := render(rs, QueueNone)
	must(t, err)
	rs.Hold = false
	for i := range rs.Services {
		s := &rs.Services[i]
		s.Drain, s.Take = s.Drain.Union(s.Take), hashmode.Set{}
	}
	want, err := render(rs, QueueTarget)
	must(t, err)
	if got.text() != want.text() {
		t.Errorf("the ruleset is\n%s", got.text())
	}
}

func golden(t *testing.T, name string, rs Ruleset, q Queue) {
	p, err := render(rs, q)
	must(t, err)
	path := "testdata/" + name + ".golden"
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(path, []byte(p.text()), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if got := p.text(); got != string(want) {
		t.Errorf("ruleset differs from %s:\n%s", path, got)
	}
	slices.Reverse(rs.Services)
	again, err := render(rs, q)
	must(t, err)
	if again.text() != string(want) {
		t.Error("the order of the services changes the ruleset")
	}
}

// The kernel takes every example, and nft, where it is installed, lists it
// without raw bytes.
func TestExamplesListWell(t *testing.T) {
	for name, rs := range examples() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			must(t, w.plane().Apply(rs))
			w.mustHold(rs)
			list := w.list()
			if list == "" {
				t.Log("nft is not installed: listing not looked at")
			}
			// nft 1.0.6 has no words for what neighbour discovery says.
			list = regexp.MustCompile(`icmpv6 type nd-neighbor-(advert @th,64,128 0x[0-9a-f]+|solicit) @th,192,16 0x[0-9a-f]+ @th,208,48 (set )?0x[0-9a-f]+`).ReplaceAllString(list, "")
			for _, raw := range []string{"@nh,", "@th,", "@ll,", "unknown"} {
				if strings.Contains(list, raw) {
					t.Errorf("the listing has raw %s:\n%s", raw, list)
				}
			}
		})
	}
}
