package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"earshot/coordinator"
	"earshot/e2e/lab"
	"earshot/hashmode"
	"earshot/nft"
)

// movesLab is three nodes, a client and a host for HAProxy. The lease is
// longer than the default, so that a busy machine does not tell of failovers.
func (r *rig) movesLab() (*lab.Lab, error) {
	of := func(ports ...string) lab.Service {
		return lab.Service{
			Address: shared.String() + "/24", Interface: "eth1", Hash: string(hashmode.SourceIPSourcePort), MAC: clusterMAC,
			Ports: ports, Buckets: buckets, Drain: lab.Duration(10 * time.Minute),
		}
	}
	return lab.New(lab.Options{
		Nodes: nodes, Clients: 2, Bin: r.bin, Dir: r.dir, Lease: movesLease,
		Services: map[string]lab.Service{service: of("tcp/80", "tcp/22"), "echo": of("udp/7000")},
	})
}

// earshotMover is Earshot: `out` and `in`.
type earshotMover struct {
	lab    *lab.Lab
	agents []*coordinator.Client
}

func (m *earshotMover) target() netip.Addr { return shared }
func (m *earshotMover) datagrams() bool    { return true }
func (m *earshotMover) close() error       { return nil }

func (m *earshotMover) start(ctx context.Context, l *lab.Lab) error {
	m.lab = l
	for _, n := range l.Nodes {
		m.agents = append(m.agents, coordinator.NewClient(n.Path("sock")))
	}
	if err := l.StartAll(); err != nil {
		return err
	}
	return m.await(ctx, func(own int) bool { return own >= buckets/nodes })
}

func (m *earshotMover) move(ctx context.Context, node int, in bool) error {
	verb := map[bool]string{true: "in", false: "out"}[in]
	n := m.lab.Nodes[node]
	result, err := n.Run(verb)
	if err != nil {
		return err
	}
	if result.Code != 0 {
		return fmt.Errorf("earshot %s: %s", verb, result.Stderr)
	}
	return m.await(ctx, func(own int) bool { return own > 0 == in }, n.Name)
}

// await waits until the shares of the named nodes (of all, if none is) are as
// wanted, and nobody waits for a bucket.
func (m *earshotMover) await(ctx context.Context, wanted func(own int) bool, names ...string) error {
	return lab.Poll(ctx, formLimit, func() error {
		s, err := m.agents[0].Status(ctx)
		if err != nil {
			return err
		}
		if len(s.Services) != 2 || len(s.Services[0].Nodes) != nodes || len(s.Services[1].Nodes) != nodes {
			return errors.New("not all is there")
		}
		for _, v := range s.Services {
			for _, n := range v.Nodes {
				own, err := hashmode.ParseSet(n.Own, buckets)
				if err != nil {
					return err
				}
				named := len(names) == 0 || names[0] == n.Name
				if n.Waiting != "" || named && !wanted(own.Len()) {
					return fmt.Errorf("%s owns %d buckets of %s and waits for %q", n.Name, own.Len(), v.Name, n.Waiting)
				}
			}
		}
		return nil
	})
}

// switchMover switches sets by hand: no agents, no drain.
type switchMover struct {
	planes []*nft.Plane
	lab    *lab.Lab
	index  uint64
}

func (m *switchMover) target() netip.Addr { return shared }
func (m *switchMover) datagrams() bool    { return true }

func (m *switchMover) start(_ context.Context, l *lab.Lab) error {
	m.lab = l
	for _, n := range l.Nodes {
		err := n.Do(func() error {
			p, err := nft.Open(slog.New(slog.DiscardHandler))
			if err == nil {
				m.planes = append(m.planes, p)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("plane of %s: %w", n.Name, err)
		}
	}
	if err := m.give([]int{0, 1, 2}); err != nil {
		return err
	}
	for _, p := range m.planes {
		if err := p.Lease(time.Now().Add(time.Hour)); err != nil {
			return err
		}
	}
	return nil
}

// give has the nodes share all buckets, the leaving ones first: `-1` on one
// node, then `+1` on others.
func (m *switchMover) give(to []int) error {
	sets := make([]hashmode.Set, nodes)
	for b := range buckets {
		sets[to[b%len(to)]].Add(hashmode.Bucket(b))
	}
	m.index++
	for pass := range 2 {
		for i, p := range m.planes {
			if sets[i].Empty() != (pass == 0) {
				continue
			}
			if err := p.Apply(nft.Ruleset{Index: m.index, Services: m.services(sets[i])}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *switchMover) services(own hashmode.Set) []nft.Service {
	of := func(name string, ports ...nft.Port) nft.Service {
		mac, _ := net.ParseMAC(clusterMAC) // a constant
		return nft.Service{
			Name: name, Address: shared, Interface: "eth1", MAC: mac, Ports: ports, Own: own,
			Hash: hashmode.Spec{Mode: hashmode.SourceIPSourcePort, Buckets: buckets, Seed: 1},
		}
	}
	return []nft.Service{
		of(service, nft.Port{Protocol: nft.TCP, Number: 80}, nft.Port{Protocol: nft.TCP, Number: talkPort}),
		of("echo", nft.Port{Protocol: nft.UDP, Number: echoPort}),
	}
}

func (m *switchMover) move(_ context.Context, node int, in bool) error {
	var to []int
	for i := range nodes {
		if in || i != node {
			to = append(to, i)
		}
	}
	return m.give(to)
}

func (m *switchMover) close() error {
	var errs []error
	for _, p := range m.planes {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// proxyMover is HAProxy on a host of its own.
type proxyMover struct {
	program string
	lab     *lab.Lab
	socket  string
}

func newProxyMover() (mover, error) {
	program, err := findProgram("haproxy")
	if err != nil {
		return nil, errNoBalancer
	}
	return &proxyMover{program: program}, nil
}

func (m *proxyMover) target() netip.Addr { return m.lab.Clients[1].Port.Addr }
func (m *proxyMover) datagrams() bool    { return false }
func (m *proxyMover) close() error       { return nil }

const proxyConfig = `global
  maxconn 8192
  stats socket %s level admin
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout client-fin 1h
  timeout server-fin 1h
`

func (m *proxyMover) start(ctx context.Context, l *lab.Lab) error {
	m.lab = l
	host := l.Clients[1]
	if err := host.Do(func() error { return routeTo(l.Clients[0]) }); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "haproxy")
	if err != nil {
		return err
	}
	m.socket = filepath.Join(dir, "sock")
	config := fmt.Sprintf(proxyConfig, m.socket)
	for _, port := range []int{80, talkPort} {
		config += fmt.Sprintf("listen p%d\n  bind :%d\n  balance roundrobin\n", port, port)
		for _, n := range l.Nodes {
			config += fmt.Sprintf("  server %s %s:%d\n", n.Name, n.Port.Addr, port)
		}
	}
	file := filepath.Join(dir, "cfg")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return err
	}
	if _, err := host.Start(lab.Command{Path: m.program, Args: []string{"-db", "-f", file}, Log: filepath.Join(dir, "log")}); err != nil {
		return err
	}
	if err := listens(ctx, host.Namespace, netip.AddrPortFrom(host.Port.Addr, 80)); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		return fmt.Errorf("start HAProxy: %w\n%s", err, log)
	}
	return nil
}

func (m *proxyMover) move(_ context.Context, node int, in bool) error {
	state := map[bool]string{true: "ready", false: "drain"}[in]
	for _, port := range []int{80, talkPort} {
		if err := m.command(fmt.Sprintf("set server p%d/%s state %s\n", port, m.lab.Nodes[node].Name, state)); err != nil {
			return err
		}
	}
	return nil
}

// command gives HAProxy one; it answers with an empty line when that is done.
func (m *proxyMover) command(text string) error {
	conn, err := net.Dial("unix", m.socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err == nil && len(answer) > 1 {
		err = fmt.Errorf("HAProxy: %s", answer)
	}
	return err
}
