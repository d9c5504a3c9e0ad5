package e2e

import (
	"flag"
	"net/netip"
	"testing"
	"time"

	"earshot/e2e/lab"
	"earshot/e2e/load"
)

// Flags of the stories about moves. The defaults are for a small machine that
// others use, too.
var (
	movesRate = flag.Int("moves.rate", 500, "new TCP connections per second while buckets move")
	movesLong = flag.Bool("moves.long", false, "more open connections, and a minute of silence on idle ones")
)

const (
	talkPort = 22
	// onceAPort is where datagrams ask that have no flow.
	onceAPort = 7001
	// lateAfter is when an answer is counted as late.
	lateAfter = 200 * time.Millisecond
)

// movingServices are TCP and UDP on one address.
func movingServices(hash string) map[string]lab.Service {
	return map[string]lab.Service{
		"web":  web(hash, "tcp/80", "tcp/22"),
		"echo": web(hash, "udp/7000", "udp/7001"),
	}
}

// movingCluster is a cluster with all servers that the crowd asks.
func movingCluster(t *testing.T, nodes int, services map[string]lab.Service) *lab.Lab {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	l := lab.Start(t, lab.Options{Nodes: nodes, Clients: 2, Bin: bin, Lease: storyLease, Services: services})
	for _, n := range l.Nodes {
		s := load.Service{Name: n.Name, HTTP: []string{":80"}, UDP: []string{":7000", ":7001"}, Talk: []string{":22"}}
		if _, err := load.Serve(n.Namespace, s); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.StartAll(); err != nil {
		t.Fatal(err)
	}
	t.Logf("from the start to every bucket answered: %v", whole(t, l, formLimit))
	return l
}

// crowd is all that goes on while buckets move.
type crowd struct {
	t    *testing.T
	lab  *lab.Lab
	at   netip.Addr
	wire *load.Witness
	news *load.Run // new TCP connections
	once *load.Run // datagrams, each from a port of its own
	open map[string]*load.Run
}

// gather starts a crowd at an address, from the client's addresses of that
// family, and waits until all that stays open is open.
func gather(t *testing.T, l *lab.Lab, at netip.Addr) *crowd {
	t.Helper()
	c := &crowd{t: t, lab: l, at: at, wire: watch(t, l), open: map[string]*load.Run{}}
	sources := l.Clients[0].SourceList(1000)
	if at.Is6() {
		sources = []netip.Addr{l.Clients[0].Port.IPv6}
	}
	each, often := 10, time.Duration(1)
	if *movesLong {
		each, often = 60, 4 // the new connections are the load
	}
	start := func(what string, p load.Plan, port uint16) *load.Run {
		p.Target, p.Sources, p.Timeout = netip.AddrPortFrom(at, port), sources, 10*time.Second
		p.Interval *= often
		if p.Rate == 0 {
			p.Rate, p.Count = 200, each
		}
		run := generate(t, l, p)
		if p.Count > 0 {
			c.open[what] = run
		}
		return run
	}
	start("busy", load.Plan{Kind: load.Hold, Interval: 100 * time.Millisecond}, webPort)
	start("idle", load.Plan{Kind: load.Hold, Interval: time.Hour}, webPort)
	start("WebSocket", load.Plan{Kind: load.WebSocket, Interval: 300 * time.Millisecond}, webPort)
	start("interactive", load.Plan{Kind: load.Keys, Interval: 150 * time.Millisecond}, talkPort)
	start("half-closed", load.Plan{Kind: load.HalfClosed, Interval: 100 * time.Millisecond}, talkPort)
	start("download", load.Plan{Kind: load.Download, Interval: 100 * time.Millisecond, Bytes: 100_000}, talkPort)
	start("quick flows", load.Plan{Kind: load.Flow, Interval: 100 * time.Millisecond}, echoPort)
	start("slow flows", load.Plan{Kind: load.Flow, Interval: 3 * time.Second}, echoPort)
	for what, run := range c.open {
		if err := run.Await(each, 20*time.Second); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	c.news = start("new", load.Plan{Kind: load.HTTP, Rate: *movesRate}, webPort)
	c.once = start("once", load.Plan{Kind: load.UDP, Rate: max(*movesRate/5, 1)}, onceAPort)
	c.pass()
	return c
}

// pass lets a second's worth of connections pass.
func (c *crowd) pass() {
	c.t.Helper()
	if err := c.news.AwaitMore(*movesRate, 40*time.Second); err != nil {
		c.t.Fatal(err)
	}
}
