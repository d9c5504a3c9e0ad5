package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"earshot/e2e/lab"
	"earshot/e2e/load"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// keepalived is the program that Earshot's failover is compared with.
const keepalived = "keepalived"

var errNoKeepalived = errors.New("keepalived is not installed")

// vrrpConfig is one node's; no node is preferred, so that each comes to be the
// master when the one before has failed.
const vrrpConfig = `global_defs {
  router_id %[1]s
  vrrp_version %[2]d
}
vrrp_instance web {
  state BACKUP
  nopreempt
  interface eth1
  virtual_router_id 20
  priority %[3]d
  advert_int %[4]g
  virtual_ipaddress {
    %[5]s/24
  }
}
`

// vrrpSite is three nodes with keepalived.
type vrrpSite struct {
	*lab.Lab
	program string
	advert  time.Duration
	servers map[string]*load.Server
	running map[string]*lab.Process
}

// failKeepalived measures at one advert interval.
func (r *rig) failKeepalived(ctx context.Context, advert time.Duration) (kind losses, err error) {
	program, err := findProgram(keepalived)
	if err != nil {
		return kind, errNoKeepalived
	}
	l, err := lab.New(lab.Options{Nodes: nodes, Clients: 1, Dir: r.dir})
	if err != nil {
		return kind, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	s := &vrrpSite{Lab: l, program: program, advert: advert, servers: map[string]*load.Server{}, running: map[string]*lab.Process{}}
	for _, n := range l.Nodes {
		if err := s.restore(n); err != nil {
			return kind, err
		}
	}
	kinds := []losses{{name: fmt.Sprintf("keepalived, the master, adverts every %v", advert), unit: advert}}
	err = failOften(ctx, r, s, kinds, func(int) bool { return true })
	return kinds[0], err
}

func (s *vrrpSite) client() *lab.Client { return s.Clients[0] }

// victim is the master, whose clients are all.
func (s *vrrpSite) victim(context.Context, bool) (*lab.Node, []netip.Addr, error) {
	n, err := s.master()
	return n, s.client().SourceList(1), err
}

// master is the one node that has the shared address.
func (s *vrrpSite) master() (*lab.Node, error) {
	var masters []*lab.Node
	for _, n := range s.Nodes {
		has := false
		if err := n.Do(func() (err error) { has, err = hasShared(n.Port.Device); return err }); err != nil {
			return nil, err
		}
		if has {
			masters = append(masters, n)
		}
	}
	if len(masters) != 1 {
		return nil, fmt.Errorf("%d masters", len(masters))
	}
	return masters[0], nil
}

// hasShared reports whether a device of the current namespace has the address.
func hasShared(device string) (bool, error) {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return false, err
	}
	addresses, err := netlink.AddrList(link, netlink.FAMILY_V4)
	for _, a := range addresses {
		if a.IP.Equal(shared.AsSlice()) {
			return true, nil
		}
	}
	return false, err
}

// kill ends the process that speaks VRRP before the one that watches it.
func (s *vrrpSite) kill(n *lab.Node) error {
	text, err := os.ReadFile(n.Path("vrrp.pid"))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return err
	}
	return errors.Join(unix.Kill(pid, unix.SIGKILL), s.running[n.Name].Kill(), s.servers[n.Name].Close())
}

// forget takes the shared address away.
func (s *vrrpSite) forget(n *lab.Node) error {
	return n.Do(func() error {
		link, err := netlink.LinkByName(n.Port.Device)
		if err != nil {
			return err
		}
		has, err := hasShared(n.Port.Device)
		if err != nil || !has {
			return err
		}
		return netlink.AddrDel(link, &netlink.Addr{IPNet: &net.IPNet{IP: shared.AsSlice(), Mask: net.CIDRMask(24, 32)}})
	})
}

func (s *vrrpSite) restore(n *lab.Node) error {
	server, err := load.Serve(n.Namespace, load.Service{Name: n.Name, HTTP: []string{":80"}})
	if err != nil {
		return err
	}
	s.servers[n.Name] = server
	version := 3
	if s.advert >= time.Second {
		version = 2
	}
	priority := 200 - int(n.Port.Addr.As4()[3])
	config := fmt.Appendf(nil, vrrpConfig, n.Name, version, priority, s.advert.Seconds(), shared)
	if err := os.WriteFile(n.Path("keepalived.conf"), config, 0o644); err != nil {
		return err
	}
	for _, file := range []string{"keepalived.log", "keepalived.pid", "vrrp.pid"} {
		if err := os.RemoveAll(n.Path(file)); err != nil {
			return err
		}
	}
	s.running[n.Name], err = n.Namespace.Start(lab.Command{
		Path: s.program, Log: n.Path("keepalived.log"),
		Args: []string{"-n", "-l", "-D", "-P", "-f", n.Path("keepalived.conf"), "-p", n.Path("keepalived.pid"), "-r", n.Path("vrrp.pid")},
	})
	return err
}

// settle waits until there is one master, and the others have settled for
// waiting.
func (s *vrrpSite) settle(ctx context.Context) error {
	return lab.Poll(ctx, settleLimit, func() error {
		for _, n := range s.Nodes {
			log, err := os.ReadFile(n.Path("keepalived.log"))
			if err != nil {
				return err
			}
			if !strings.Contains(string(log), "Entering BACKUP STATE") {
				return fmt.Errorf("keepalived of %s (%s) says: %s", n.Name, filepath.Base(s.program), lastLine(log))
			}
		}
		_, err := s.master()
		return err
	})
}
