package health

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"earshot/coordinator/child"
)

// Spec is a check as a config file says it. The zero value of a field is its
// default.
type Spec struct {
	Kind Kind
	// Target is the kind's own value: a URL, an address, a name, a path, or a
	// command in one line.
	Target string
	// Command is a program and its arguments, in place of Target.
	Command []string

	Method    string // of http: GET
	Host      string // of http: that of the URL
	Status    string // of http: 200-299; of exec: 0
	Expect    string // a text, or a regular expression between slashes
	Address   string // of banner: 127.0.0.1 and the protocol's port
	Name      string // of dns: what is asked for
	Type      string // of dns: A
	Transport string // of dns: udp
	Unproved  bool   // of https: any certificate does
	Redirects bool   // of http: are followed

	Interval time.Duration // 1s
	Timeout  time.Duration // 1s
	Grace    time.Duration // none
	Fall     int           // 2
	Rise     int           // 2
}

// The defaults and bounds of when to ask.
const (
	defaultEvery = time.Second
	defaultCount = 2

	// MinInterval keeps a check from being a load.
	MinInterval = 50 * time.Millisecond
	// MaxInterval keeps a typing error from being no check at all.
	MaxInterval = time.Hour
	// MaxCount bounds fall and rise.
	MaxCount = 1000
)

// Problem is what is wrong with one key of a Spec.
type Problem struct{ Key, Text, Hint string }

// New returns the check that a Spec describes, or all that is wrong with it.
// Programs are started by the runner.
func New(s Spec, runner *child.Runner) (*Check, []Problem) {
	b := &builder{spec: s, runner: runner}
	c := &Check{Name: strings.TrimSpace(string(s.Kind) + " " + s.what())}
	c.Interval = b.duration("interval", s.Interval, defaultEvery, MinInterval)
	c.Timeout = b.duration("timeout", s.Timeout, defaultEvery, time.Millisecond)
	c.Rules = Rules{Fall: b.count("fall", s.Fall), Rise: b.count("rise", s.Rise)}
	if c.Rules.Grace = s.Grace; s.Grace < 0 || s.Grace > MaxInterval {
		b.refuse("grace", "%v is out of range (0s to %v)", s.Grace, MaxInterval)
	}
	c.probe = b.probe()
	if len(b.problems) > 0 {
		return nil, b.problems
	}
	return c, nil
}

// what is the target in words.
func (s Spec) what() string {
	if len(s.Command) > 0 {
		return strings.Join(s.Command, " ")
	}
	return s.Target
}

// builder makes a probe of a Spec.
type builder struct {
	spec     Spec
	runner   *child.Runner
	problems []Problem
}

func (b *builder) refuse(key, format string, args ...any) {
	b.problems = append(b.problems, Problem{Key: key, Text: fmt.Sprintf(format, args...)})
}

func (b *builder) advise(hint, key, format string, args ...any) {
	b.problems = append(b.problems, Problem{Key: key, Text: fmt.Sprintf(format, args...), Hint: hint})
}

func (b *builder) duration(key string, d, fallback, least time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	if d < least || d > MaxInterval {
		b.refuse(key, "%v is out of range (%v to %v)", d, least, MaxInterval)
	}
	return d
}

func (b *builder) count(key string, n int) int {
	if n == 0 {
		return defaultCount
	}
	if n < 1 || n > MaxCount {
		b.refuse(key, "%d is out of range (1 to %d)", n, MaxCount)
	}
	return n
}

func (b *builder) probe() probe {
	s := b.spec
	switch s.Kind {
	case HTTP, HTTPS:
		return b.http()
	case TCP:
		return tcpProbe(b.address(string(TCP), s.Target, ""))
	case DNS:
		return b.dns()
	case Exec:
		return b.exec()
	case Process:
		switch {
		case s.Target == "":
			b.refuse(string(Process), "is empty; name a program or its pid file")
		case filepath.IsAbs(s.Target):
			return pidFileProbe(s.Target)
		case strings.Contains(s.Target, "/"):
			b.advise("a name as in nginx, or the absolute path of a pid file", string(Process), "%q is no name of a process", s.Target)
		}
		return processProbe(s.Target)
	case File:
		if !filepath.IsAbs(s.Target) {
			b.refuse(string(File), "%q is not an absolute path", s.Target)
		}
		return fileProbe(s.Target, b.expect())
	case Banner:
		return b.banner()
	}
	b.refuse("", "unknown kind %q", s.Kind)
	return nil
}

func (b *builder) expect() expectation {
	e, err := parseExpect(b.spec.Expect)
	if err != nil {
		b.refuse("expect", "%v", err)
	}
	return e
}

func (b *builder) statuses(fallback string, most int) statuses {
	text := b.spec.Status
	if text == "" {
		text = fallback
	}
	s, err := parseStatuses(text, most)
	if err != nil {
		b.refuse("status", "%v", err)
	}
	return s
}

func (b *builder) http() probe {
	s, key := b.spec, string(b.spec.Kind)
	u, err := url.Parse(s.Target)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "":
		b.refuse(key, "%q is no URL, as in %s://127.0.0.1/alive.html", s.Target, key)
	case u.Scheme != key:
		b.refuse(key, "%q does not begin with %s://", s.Target, key)
	}
	method := s.Method
	if method == "" {
		method = "GET"
	}
	if strings.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		b.refuse("method", "%q is no method (use GET, HEAD, OPTIONS)", method)
	}
	if strings.ContainsAny(s.Host, " /\t\r\n") {
		b.refuse("host", "%q is no host", s.Host)
	}
	return httpQuestion{
		url: s.Target, method: method, host: s.Host, statuses: b.statuses("200-299", 599),
		expect: b.expect(), unproved: s.Unproved, redirects: s.Redirects,
	}.probe()
}

// address reads "127.0.0.1:25". Without a port it takes the fallback.
func (b *builder) address(key, s, port string) string {
	if ip, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil && port != "" {
		return net.JoinHostPort(ip.String(), port)
	}
	host, number, err := net.SplitHostPort(s)
	if err != nil && port != "" && s != "" && !strings.Contains(s, ":") {
		host, number, err = s, port, nil
	}
	n, err2 := strconv.ParseUint(number, 10, 16)
	if err != nil || err2 != nil || host == "" || n == 0 || strings.ContainsAny(host, " /\t") {
		b.refuse(key, "%q is no address and port, as in 127.0.0.1:8080", s)
	}
	return net.JoinHostPort(host, number)
}

func (b *builder) dns() probe {
	s := b.spec
	q := dnsQuestion{address: b.address(string(DNS), s.Target, "53"), name: s.Name, expect: b.expect()}
	if s.Name == "" {
		b.refuse("name", "missing: what the server is asked for, as in www.example.com")
	} else if _, ok := dns.IsDomainName(s.Name); !ok {
		b.refuse("name", "%q is no domain name", s.Name)
	}
	kind := strings.ToUpper(s.Type)
	if kind == "" {
		kind = "A"
	}
	var known bool
	if q.kind, known = dns.StringToType[kind]; !known {
		b.refuse("type", "%q is no type of record (as in A, AAAA, MX, SOA)", s.Type)
	}
	switch q.network = s.Transport; s.Transport {
	case "":
		q.network = "udp"
	case "udp", "tcp":
	default:
		b.refuse("transport", "unknown value %q (use udp, tcp)", s.Transport)
	}
	return q.probe()
}

func (b *builder) exec() probe {
	s := b.spec
	args := s.Command
	if len(args) == 0 {
		var err error
		if args, err = child.Words(s.Target); err != nil {
			b.advise(`write exec: [sh, -c, "…"] if it needs a shell`, string(Exec), "%v", err)
			return nil
		}
	}
	if len(args) == 0 || args[0] == "" {
		b.refuse(string(Exec), "names no program")
		return nil
	}
	return script{runner: b.runner, args: args, statuses: b.statuses("0", 255), expect: b.expect()}.probe()
}

func (b *builder) banner() probe {
	s := b.spec
	p, ok := protocols()[s.Target]
	if !ok {
		b.refuse(string(Banner), "unknown protocol %q (use %s)", s.Target, strings.Join(slices.Sorted(maps.Keys(protocols())), ", "))
		return nil
	}
	address := s.Address
	if address == "" {
		address = "127.0.0.1"
	}
	return bannerProbe(p, b.address("address", address, p.port), b.expect())
}
