package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"earshot/coordinator"
	"earshot/e2e/lab"
	"earshot/hashmode"
)

const (
	address = "192.168.56.20"
	limit   = 40 * time.Second
	lasts   = 20 // seconds that the programs run for
	bin     = "../../bin/earshot"
)

// packages are the programs that the stories need, and where they come from.
var packages = map[string]string{
	"wrk": "wrk", "nginx": "nginx-light", "curl": "curl", "iperf3": "iperf3", "dig": "bind9-dnsutils", "dnsmasq": "dnsmasq-base",
}

func TestMain(m *testing.M) {
	os.Exit(lab.Program{Before: prepare, Run: m.Run, Roles: map[string]lab.Role{
		"quic-server": playQUICServer, "quic-client": playQUICClient,
	}}.Main())
}

// prepare builds the program under test and installs peers.
func prepare() error {
	if err := lab.Build(bin); err != nil {
		return err
	}
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		delete(packages, "nginx") // its package would start a server here
	}
	for name, from := range packages {
		if err := lab.Need(os.Stderr, name, from); err != nil {
			fmt.Fprintf(os.Stderr, "WARNING: %s IS MISSING, ITS STORY WILL BE SKIPPED: %v\n", strings.ToUpper(name), err)
		}
	}
	return nil
}

// stage is a cluster with the peers' servers.
type stage struct {
	t      *testing.T
	lab    *lab.Lab
	agent  *coordinator.Client
	client *lab.Namespace
}

func newStage(t *testing.T) *stage {
	program, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	of := func(hash hashmode.Mode, ports ...string) lab.Service {
		return lab.Service{
			Address: address + "/24", Interface: "eth1", Hash: string(hash), Ports: ports, Buckets: 256,
			Drain: lab.Duration(5 * time.Minute),
		}
	}
	l := lab.Start(t, lab.Options{Nodes: 3, Clients: 1, Bin: program, Lease: time.Second, Services: map[string]lab.Service{
		"web": of(hashmode.SourceIPSourcePort, "tcp/80"), "names": of(hashmode.SourceIPSourcePort, "udp/53"),
		"quic": of(hashmode.SourceIPSourcePort, "udp/4433"), "speed": of(hashmode.SourceIP, "tcp/5201", "udp/5201", "tcp/5202", "udp/5202"),
	}})
	s := &stage{t: t, lab: l, agent: coordinator.NewClient(l.Nodes[0].Path("sock")), client: l.Clients[0].Namespace}
	if err := l.StartAll(); err != nil {
		t.Fatal(err)
	}
	s.await("every node to own its share", func(string, int) bool { return true })
	for _, n := range l.Nodes {
		s.serve(n)
	}
	return s
}

// await waits until shares are as wanted and nothing waits.
func (s *stage) await(what string, wanted func(node string, own int) bool) {
	s.t.Helper()
	lab.Eventually(s.t, limit, what, func() error {
		st, err := s.agent.Status(s.t.Context())
		if err != nil {
			return err
		}
		if len(st.Services) != 4 || len(st.Nodes) != 3 {
			return errors.New("not all is there")
		}
		for _, v := range st.Services {
			total := 0
			for _, n := range v.Nodes {
				own, err := hashmode.ParseSet(n.Own, 256)
				if err != nil {
					return err
				}
				total += own.Len()
				if n.Waiting != "" || !wanted(n.Name, own.Len()) {
					return fmt.Errorf("%s owns %d of %s, and waits for %q", n.Name, own.Len(), v.Name, n.Waiting)
				}
			}
			if total != 256 || len(v.Nodes) != 3 {
				return fmt.Errorf("%s is not shared out", v.Name)
			}
		}
		return nil
	})
}

const nginxConfig = `daemon off; master_process off; user root; pid %[1]s/nginx.pid; error_log stderr crit;
events { worker_connections 1024; }
http {
  access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;
  client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  server { listen 80; root %[1]s; location = / { return 200 "%[2]s\n"; } }
}
`

// largeFile is the size of the download in bytes.
const largeFile = 40 << 20

// serve starts what is installed.
func (s *stage) serve(n *lab.Node) {
	s.t.Helper()
	must := func(err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
	}
	start := func(name string, args ...string) {
		if path, err := lab.FindProgram(name); err == nil {
			_, err := n.Namespace.Start(lab.Command{Path: path, Args: args, Log: n.Path(name + ".log")})
			must(err)
		}
	}
	config := n.Path("nginx.conf")
	must(os.WriteFile(config, fmt.Appendf(nil, nginxConfig, n.Path("."), n.Name), 0o644))
	must(os.WriteFile(n.Path("large"), make([]byte, 0), 0o644))
	must(os.Truncate(n.Path("large"), largeFile))
	start("nginx", "-c", config, "-p", n.Path("."), "-e", "stderr")
	start("dnsmasq", "-k", "-p", "53", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--address=/#/192.0.2.1", "--listen-address="+address, "--bind-interfaces", "-u", "root", "--pid-file=")
	for _, port := range []string{"5201", "5202"} {
		start("iperf3", "-s", "-B", address, "-p", port)
	}
	_, err := n.Namespace.Start(lab.Command{Role: "quic-server", Args: []string{address + ":4433"}, Log: n.Path("quic.log")})
	must(err)
	lab.Eventually(s.t, limit, "QUIC server of "+n.Name, func() error {
		if text, err := os.ReadFile(n.Path("quic.log")); err != nil || !bytes.Contains(text, []byte("ready")) {
			return fmt.Errorf("not ready: %s, %w", text, err)
		}
		return nil
	})
}

// peer is a program at work at the client.
type peer struct {
	name   string
	done   chan struct{}
	result lab.Result
	err    error
}

func (s *stage) run(name string, args ...string) *peer {
	s.t.Helper()
	p := &peer{name: name, done: make(chan struct{})}
	path, err := lab.FindProgram(name)
	if err != nil {
		s.t.Logf("SKIPPED: %s is not installed and could not be", name)
		return nil
	}
	go func() {
		defer close(p.done)
		ctx, cancel := context.WithTimeout(context.Background(), 2*limit)
		defer cancel()
		p.result, p.err = s.client.Run(ctx, lab.Command{Path: path, Args: args})
	}()
	return p
}

// ends waits for the end and says what went wrong, if anything did.
func (p *peer) ends(wrong func(out string) string) string {
	if p == nil {
		return ""
	}
	<-p.done
	why := ""
	if p.err == nil && p.result.Code == 0 {
		if why = wrong(p.result.Stdout); why == "" {
			return ""
		}
	}
	const enough = 400
	out := p.result.Stdout + p.result.Stderr
	return fmt.Sprintf("%s: %v, exit status %d, %s\n%s", p.name, p.err, p.result.Code, why, out[max(0, len(out)-enough):])
}

// Each node goes and comes back while programs that others have written are
// served. None of them reports an error. When nodes lose their leases, for want
// of a processor, that is another story, and it is told again.
func TestPeersNoticeNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("a long story: make stories")
	}
	const tries = 3
	for range tries {
		complaints, disturbed := tell(t)
		if disturbed == 0 {
			for _, why := range complaints {
				t.Error(why)
			}
			return
		}
		t.Logf("NOT JUDGED: the machine was too busy, nodes lost their leases %d times; %s", disturbed, strings.Join(complaints, "\n"))
	}
	t.Errorf("nodes lost their leases in each of %d tries: the machine is too busy, or they lose them by moving buckets", tries)
}

// tell tells the story once and returns what the programs complain of, and how
// many leases were lost.
func tell(t *testing.T) (complaints []string, disturbed int) {
	s := newStage(t)
	judge := func(p *peer, wrong func(out string) string) {
		if why := p.ends(wrong); why != "" {
			complaints = append(complaints, why)
		}
	}
	seconds := fmt.Sprint(lasts)
	questions := filepath.Join(t.TempDir(), "questions")
	var names strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&names, "host%d.example +tries=1 +time=5\n", i)
	}
	if err := os.WriteFile(questions, []byte(names.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	// wrk knows no rate: unrestrained it would leave the nodes no processor.
	restraint := filepath.Join(t.TempDir(), "restraint.lua")
	if err := os.WriteFile(restraint, []byte("function delay() return 20 end\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	wrk := s.run("wrk", "-t", "1", "-c", "20", "-s", restraint, "-d", seconds+"s", "--timeout", "10s", "http://"+address+"/")
	curl := s.run("curl", "-sS", "--fail", "-o", "/dev/null", "-w", "%{size_download}", "--limit-rate", "2M", "http://"+address+"/large")
	tcp := s.run("iperf3", "-c", address, "-p", "5201", "-t", seconds, "-b", "20M", "--json")
	udp := s.run("iperf3", "-c", address, "-p", "5202", "-t", seconds, "-u", "-b", "2M", "--json")
	dig := s.run("dig", "@"+address, "+short", "-f", questions)
	leash, report := s.quic()
	s.connected(tcp, "tcp", 5201, 2)
	s.connected(udp, "tcp", 5202, 1)
	s.connected(udp, "udp", 5202, 1)
	for _, n := range s.lab.Nodes {
		for _, verb := range []string{"out", "in"} {
			if r, err := n.Run(verb); err != nil || r.Code != 0 {
				t.Fatalf("%s %s: %v %s", verb, n.Name, err, r.Stderr)
			}
			s.await(verb+" "+n.Name, func(node string, own int) bool { return node != n.Name || own > 0 == (verb == "in") })
		}
	}
	judge(wrk, func(out string) string {
		t.Logf("wrk: %s", out)
		if strings.Contains(out, "Socket errors") || strings.Contains(out, "Non-2xx") {
			return "errors"
		}
		return ""
	})
	judge(curl, func(out string) string {
		if out != fmt.Sprint(largeFile) {
			return "received " + out
		}
		return ""
	})
	judge(tcp, iperfError(t))
	judge(udp, iperfError(t))
	judge(dig, func(out string) string {
		if answers := strings.Count(out, "192.0.2.1\n"); answers != 2000 {
			return fmt.Sprintf("%d answers of 2000", answers)
		}
		return ""
	})
	leash.Close()
	r := report()
	t.Logf("QUIC: %+v", r)
	if r.Error != "" || r.Exchanges == 0 {
		complaints = append(complaints, fmt.Sprintf("QUIC: %+v", r))
	}
	for _, n := range s.lab.Nodes {
		disturbed += strings.Count(n.Log(), "lease lost")
	}
	return complaints, disturbed
}

// connected waits until a client has so many connections to a port. iperf3 opens
// one after the other, and its server hangs if they come to two nodes: a client
// whose bucket moves in between is out of luck, as with FTP.
func (s *stage) connected(p *peer, proto string, port, count int) {
	s.t.Helper()
	if p == nil {
		return
	}
	lab.Eventually(s.t, limit, fmt.Sprintf("%d %s connections to port %d", count, proto, port), func() error {
		var table []byte
		err := s.client.Do(func() (err error) {
			table, err = os.ReadFile("/proc/thread-self/net/" + proto)
			return err
		})
		// Established, or of UDP connected: state 01.
		if n := bytes.Count(table, fmt.Appendf(nil, ":%04X 01 ", port)); err == nil && n < count {
			err = fmt.Errorf("%d so far", n)
		}
		return err
	})
}

// iperfError is what iperf3 says went wrong.
func iperfError(t *testing.T) func(string) string {
	return func(out string) string {
		var r struct {
			Error string
			End   struct {
				Sum struct {
					Packets int
					Lost    int `json:"lost_packets"`
				}
			}
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			return err.Error()
		}
		t.Logf("iperf3: %+v", r)
		return r.Error
	}
}

// quic starts the QUIC client; closing the leash ends it.
func (s *stage) quic() (leash *os.File, report func() quicReport) {
	s.t.Helper()
	in, leash, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	defer in.Close()
	var out bytes.Buffer
	p, err := s.client.Start(lab.Command{Role: "quic-client", Args: []string{address + ":4433"}, Stdin: in, Stdout: &out, Stderr: os.Stderr})
	if err != nil {
		s.t.Fatal(err)
	}
	return leash, func() quicReport {
		<-p.Done()
		var r quicReport
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			s.t.Fatalf("QUIC client: %v, %q", err, out.String())
		}
		return r
	}
}
