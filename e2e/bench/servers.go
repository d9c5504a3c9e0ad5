package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"earshot/e2e/lab"
	"earshot/e2e/load"

	"github.com/vishvananda/netlink"
)

// serverLimit is the time for a server to listen.
const serverLimit = 5 * time.Second

func findProgram(name string) (string, error) { return lab.FindProgram(name) }

// serve starts the same web server on every node and returns its name: nginx if
// it is installed, else Go's.
func (c *cluster) serve(ctx context.Context) (string, error) {
	nginx, err := findProgram("nginx")
	for _, n := range c.Nodes {
		if err == nil {
			if e := startNginx(n, nginx); e != nil {
				return "", e
			}
			continue
		}
		if _, e := load.Serve(n.Namespace, load.Service{Name: n.Name, HTTP: []string{":80"}}); e != nil {
			return "", e
		}
	}
	for _, n := range c.Nodes {
		if e := listens(ctx, n.Namespace, netip.AddrPortFrom(n.Port.Addr, 80)); e != nil {
			return "", fmt.Errorf("web server of %s: %w", n.Name, e)
		}
	}
	if err == nil {
		return "nginx", nil
	}
	return "Go net/http (nginx is not installed)", nil
}

// nginxConfig is for one node; %[1]s is its directory, %[2]s its name. One
// process, since all nodes share the cores, and so that none outlives it.
const nginxConfig = `daemon off;
master_process off;
user root;
pid %[1]s/nginx.pid;
error_log stderr crit;
events { worker_connections 4096; }
http {
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_body_temp_path %[1]s/nginx.body;
  proxy_temp_path %[1]s/nginx.proxy;
  fastcgi_temp_path %[1]s/nginx.fastcgi;
  uwsgi_temp_path %[1]s/nginx.uwsgi;
  scgi_temp_path %[1]s/nginx.scgi;
  server {
    listen 80 backlog=4096;
    location / {
      add_header X-Earshot-Node %[2]s;
      return 200 "%[2]s\n";
    }
  }
}
`

func startNginx(n *lab.Node, program string) error {
	file := n.Path("nginx.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, nginxConfig, n.Path("."), n.Name), 0o644); err != nil {
		return err
	}
	_, err := n.Namespace.Start(lab.Command{
		Path: program, Args: []string{"-c", file, "-p", n.Path("."), "-e", "stderr"}, Log: n.Path("nginx.log"),
	})
	return err
}

// listens waits until something accepts connections at an address, from inside
// a namespace.
func listens(ctx context.Context, n *lab.Namespace, at netip.AddrPort) error {
	return lab.Poll(ctx, serverLimit, func() error {
		conn, err := n.Dial(ctx, "tcp", at.String())
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

var errNoBalancer = errors.New("HAProxy is not installed")

// haproxyConfig is HAProxy at its best: connections to the nodes are kept and
// shared, also when those of the clients are closed.
const haproxyConfig = `global
  maxconn 8192
defaults
  mode http
  timeout connect 3s
  timeout client 60s
  timeout server 60s
  option http-keep-alive
  http-reuse always
frontend web
  bind :80
  default_backend nodes
backend nodes
  balance roundrobin
`

// routeTo lets the current namespace send to a client's sources, as nodes can.
func routeTo(c *lab.Client) error {
	_, to, err := net.ParseCIDR(c.Sources.String())
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{Dst: to, Gw: c.Port.Addr.AsSlice()})
}

// balance starts HAProxy on a host of its own, in front of all nodes.
func (c *cluster) balance(ctx context.Context, host *lab.Client, dir string) error {
	program, err := findProgram("haproxy")
	if err != nil {
		return errNoBalancer
	}
	if err := host.Do(func() error { return routeTo(c.Clients[0]) }); err != nil {
		return fmt.Errorf("route from HAProxy to the client: %w", err)
	}
	config := haproxyConfig
	for _, n := range c.Nodes {
		config += fmt.Sprintf("  server %s %s:80\n", n.Name, n.Port.Addr)
	}
	file := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return err
	}
	_, err = host.Start(lab.Command{Path: program, Args: []string{"-db", "-f", file}, Log: filepath.Join(dir, "haproxy.log")})
	if err != nil {
		return err
	}
	if err := listens(ctx, host.Namespace, netip.AddrPortFrom(host.Port.Addr, 80)); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "haproxy.log"))
		return fmt.Errorf("start HAProxy: %w\n%s", err, log)
	}
	return nil
}
