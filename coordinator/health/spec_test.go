package health

import (
	"slices"
	"strings"
	"testing"
	"time"

	"earshot/coordinator/child"
)

func TestDefaults(t *testing.T) {
	c, problems := New(Spec{Kind: TCP, Target: "localhost:80"}, runner)
	if len(problems) > 0 || c.Interval != time.Second || c.Timeout != time.Second || c.Rules != (Rules{Fall: 2, Rise: 2}) || c.Name != "tcp localhost:80" {
		t.Errorf("%+v, %+v", c, problems)
	}
}

func TestImpossibleSpecs(t *testing.T) {
	for _, tt := range []struct {
		spec      Spec
		key, text string
	}{
		{Spec{Kind: HTTP, Target: "127.0.0.1"}, "http", "is no URL"},
		{Spec{Kind: HTTP, Target: "http:///x"}, "http", "is no URL"},
		{Spec{Kind: HTTP, Target: "https://localhost"}, "http", "does not begin with http://"},
		{Spec{Kind: HTTPS, Target: "http://localhost"}, "https", "does not begin with https://"},
		{Spec{Kind: HTTP, Target: "http://a", Method: "get"}, "method", "no method"},
		{Spec{Kind: HTTP, Target: "http://a", Host: "a b"}, "host", "no host"},
		{Spec{Kind: HTTP, Target: "http://a", Status: "2xx"}, "status", "no status"},
		{Spec{Kind: HTTP, Target: "http://a", Status: "299-200"}, "status", "no status"},
		{Spec{Kind: HTTP, Target: "http://a", Status: "600"}, "status", "no status"},
		{Spec{Kind: HTTP, Target: "http://a", Expect: "/(/"}, "expect", "no regular expression"},
		{Spec{Kind: TCP, Target: "80"}, "tcp", "no address and port"},
		{Spec{Kind: TCP, Target: "a:0"}, "tcp", "no address and port"},
		{Spec{Kind: TCP, Target: "::1"}, "tcp", "no address and port"},
		{Spec{Kind: DNS, Target: "127.0.0.1"}, "name", "missing"},
		{Spec{Kind: DNS, Target: "127.0.0.1", Name: "a..b"}, "name", "no domain name"},
		{Spec{Kind: DNS, Target: "127.0.0.1", Name: "a", Type: "address"}, "type", "no type of record"},
		{Spec{Kind: DNS, Target: "127.0.0.1", Name: "a", Transport: "tls"}, "transport", "use udp, tcp"},
		{Spec{Kind: Exec}, "exec", "names no program"},
		{Spec{Kind: Exec, Target: "a | b"}, "exec", `'|' is for a shell`},
		{Spec{Kind: Exec, Target: "a 'b"}, "exec", "not closed"},
		{Spec{Kind: Process}, "process", "is empty"},
		{Spec{Kind: Process, Target: "run/x.pid"}, "process", "no name of a process"},
		{Spec{Kind: File, Target: "alive"}, "file", "not an absolute path"},
		{Spec{Kind: Banner, Target: "gopher"}, "banner", "use ftp, imap, mysql, pop3, postgres, redis, smtp, ssh"},
		{Spec{Kind: Banner, Target: "smtp", Address: "a:b"}, "address", "no address and port"},
		{Spec{Kind: File, Target: "/a", Interval: time.Millisecond}, "interval", "out of range (50ms to 1h0m0s)"},
		{Spec{Kind: File, Target: "/a", Timeout: 2 * time.Hour}, "timeout", "out of range"},
		{Spec{Kind: File, Target: "/a", Grace: -1}, "grace", "out of range"},
		{Spec{Kind: File, Target: "/a", Fall: -1}, "fall", "out of range (1 to 1000)"},
		{Spec{Kind: File, Target: "/a", Rise: 1001}, "rise", "out of range"},
		{Spec{Kind: "sing"}, "", "unknown kind"},
	} {
		c, problems := New(tt.spec, runner)
		if c != nil || len(problems) != 1 || problems[0].Key != tt.key || !strings.Contains(problems[0].Text, tt.text) {
			t.Errorf("%+v: %+v", tt.spec, problems)
		}
	}
}

func TestAddressesHaveThePortOfTheirKind(t *testing.T) {
	for s, want := range map[string]string{
		"127.0.0.1": "127.0.0.1:25", "::1": "[::1]:25", "[::1]": "[::1]:25", "mail": "mail:25",
		"127.0.0.1:26": "127.0.0.1:26", "[::1]:26": "[::1]:26",
	} {
		b := &builder{}
		if got := b.address("address", s, "25"); got != want || len(b.problems) > 0 {
			t.Errorf("%s: %s, %v", s, got, b.problems)
		}
	}
}

func TestSplitWords(t *testing.T) {
	for line, want := range map[string][]string{
		"":                            nil,
		"a  b\tc":                     {"a", "b", "c"},
		`a "b c" 'd "e'`:              {"a", "b c", `d "e`},
		`a\ b \"c ''`:                 {"a b", `"c`, ""},
		`curl -s "http://x/?a=1&b=2"`: {"curl", "-s", "http://x/?a=1&b=2"},
		`"a \"b\" c"`:                 {`a "b" c`},
	} {
		got, err := child.Words(line)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", line, got, err)
		}
	}
}

func TestEveryKindTakesTheKeysOfWhenToAsk(t *testing.T) {
	for _, k := range Kinds() {
		if !k.Takes("interval") || k.Takes("colour") {
			t.Error(k)
		}
	}
	if HTTP.Takes("verify") || !HTTPS.Takes("verify") || TCP.Takes("expect") {
		t.Error("keys of another kind")
	}
}
