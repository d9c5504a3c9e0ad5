package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"earshot/coordinator"
)

const (
	maxRestartLease = 10 * time.Minute
	// timerMargin is what the lease's margin is at the least: two jiffies at
	// HZ 250 and a millisecond.
	timerMargin = 9 * time.Millisecond
)

// The roles of a node.
const (
	roleNode    = coordinator.RoleNode
	roleWitness = coordinator.RoleWitness
)

// witness reports a node that votes and never answers.
func (c config) witness() bool { return c.Role == roleWitness }

const (
	maxNodeName    = 63
	maxServiceName = 24
)

// convert gives the file's text its types, and refuses impossible values.
func (l *loader) convert(raw rawConfig) config {
	cfg := config{
		File:         l.file,
		Node:         l.nodeName(raw.Node),
		Listen:       l.listen(raw.Listen),
		Peers:        l.peers(raw.Peers),
		KeyFile:      l.path("key_file", raw.KeyFile),
		DataDir:      l.path("data_dir", raw.DataDir),
		Socket:       l.path("socket", raw.Socket),
		Lease:        l.lease(raw.Lease),
		RestartLease: l.between("restart_lease", raw.RestartLease, 0, maxRestartLease),
		Role:         l.oneOf("role", raw.Role, roleNode, roleWitness),
		Weight:       l.weight(raw.Weight),
		Damping:      l.damping(raw),
	}
	cfg.WatchConfig = l.truth("watch_config", raw.WatchConfig)
	cfg.Hooks = l.hooks(raw)
	cfg.Values = l.values
	cfg.Services = l.convertServices(raw.Services, cfg.witness())
	cfg.Checks, cfg.FallbackChecks = l.checksOf("check"), l.checksOf("fallback_check")
	for service := range cfg.FallbackChecks {
		if len(cfg.Checks[service]) == 0 {
			l.refuse(serviceKey(service, "fallback_check"), "is for a service with a check")
		}
	}
	cfg.Prefer = l.prefer(raw.Services, cfg.Services)
	l.strangers(cfg)
	cfg.Warnings = l.warnings
	return cfg
}

// checkNodeName judges the name of a node.
func checkNodeName(name string) error {
	return checkName(name, `^[a-z0-9][a-z0-9_.-]*$`, "a-z or 0-9", maxNodeName)
}

// checkServiceName judges the name of a service. It becomes part of the names
// of nft sets, and those begin with a letter.
func checkServiceName(name string) error {
	return checkName(name, `^[a-z][a-z0-9_.-]*$`, "a-z", maxServiceName)
}

func checkName(name, pattern, first string, most int) error {
	if len(name) > most {
		return fmt.Errorf("name %q is longer than %d letters", name, most)
	}
	if !regexp.MustCompile(pattern).MatchString(name) {
		return fmt.Errorf("name %q must begin with %s and go on with a-z, 0-9, _, . or -", name, first)
	}
	return nil
}

// nodeName is the name given, or the host's.
func (l *loader) nodeName(name string) string {
	if l.given("node") {
		if err := checkNodeName(name); err != nil {
			l.refuse("node", "%v", err)
		}
		return name
	}
	name, err := os.Hostname()
	if err == nil {
		name = strings.ToLower(name)
		err = checkNodeName(name)
	}
	if err != nil {
		l.refuse("node", "missing, and the host name does not do: %v", err)
	}
	return name
}

func (l *loader) listen(s string) string {
	if s == "" {
		l.advise("name this node's own address or its interface, as in 192.168.56.11:7440 or eth1:7440", "listen", "missing")
		return ""
	}
	host, port, err := splitHostPort(s)
	if err != nil {
		l.refuse("listen", "%v", err)
		return ""
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil && (ip.IsUnspecified() || ip.IsMulticast()):
		l.refuse("listen", "%s is no address that peers can reach; name this node's own", host)
	case err != nil:
		if err := checkInterface(host); err != nil {
			l.refuse("listen", "%q is neither an address nor an interface: %v", host, err)
		}
	}
	return net.JoinHostPort(host, port)
}

func (l *loader) peers(list []string) []string {
	var peers []string
	for _, s := range list {
		host, port, err := splitHostPort(s)
		if err != nil {
			l.refuse("peers", "%v", err)
			return nil
		}
		peer := net.JoinHostPort(host, port)
		if slices.Contains(peers, peer) {
			l.refuse("peers", "%s is named twice", peer)
			return nil
		}
		peers = append(peers, peer)
	}
	if len(peers) == 0 {
		// Without peers every node would found a cluster of its own, and all
		// of them would answer.
		l.advise("list the nodes' listen addresses; for a cluster of one, this node's alone", "peers", "missing")
	}
	return peers
}

// splitHostPort splits "host:port", where the port may be missing.
func splitHostPort(s string) (host, port string, err error) {
	if ip, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return ip.String(), defaultPort, nil
	}
	if !strings.Contains(s, ":") {
		s += ":" + defaultPort
	}
	host, port, err = net.SplitHostPort(s)
	if err != nil || host == "" || strings.ContainsAny(host, " /") {
		return "", "", fmt.Errorf("%q is not host:port", s)
	}
	if _, err := parsePortNumber(port); err != nil {
		return "", "", fmt.Errorf("%q: %w", s, err)
	}
	return host, port, nil
}

// parsePortNumber reads a port, 1 to 65535.
func parsePortNumber(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || s[0] == '0' {
		return 0, fmt.Errorf("%q is no port (1 to 65535)", s)
	}
	return uint16(n), nil
}

func (l *loader) path(key, path string) string {
	switch {
	case !filepath.IsAbs(path):
		l.refuse(key, "%q is not an absolute path", path)
	case key == "socket" && len(path) > maxSocketPath:
		l.refuse(key, "path is longer than %d bytes, more than Unix sockets have", maxSocketPath)
	}
	return path
}

// maxSocketPath is sizeof(sockaddr_un.sun_path) without the final zero.
const maxSocketPath = 107

func (l *loader) lease(s string) time.Duration {
	lease := l.duration("lease", s)
	switch {
	case l.refused("lease"):
	case lease < coordinator.MinLease:
		l.refuse("lease", "%v is too short: the margin for clocks and kernel timers takes %v of it, and renewals must fit in the rest (%v to %v)",
			lease, timerMargin, coordinator.MinLease, coordinator.MaxLease)
	case lease > coordinator.MaxLease:
		l.refuse("lease", "%v is too long: a dead node's buckets would have no owner for that time (%v to %v)", lease, coordinator.MinLease, coordinator.MaxLease)
	}
	return lease
}

func (l *loader) duration(key, s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		l.refuse(key, "%q is no duration (write it as in 300ms, 10s or 5m)", s)
	}
	return d
}

// truth reads true or false; viper writes them as 1 and 0.
func (l *loader) truth(key, s string) bool {
	yes, err := strconv.ParseBool(s)
	if err != nil {
		l.refuse(key, "%q is neither true nor false", s)
	}
	return yes
}

// oneOf refuses a word that is not among those that the key knows.
func (l *loader) oneOf(key, word string, known ...string) string {
	if !l.later(key, word) && !slices.Contains(known, word) {
		l.refuse(key, "unknown value %q (use %s)", word, strings.Join(known, ", "))
	}
	return word
}

// checkInterface judges the name of a network interface.
func checkInterface(name string) error {
	switch {
	case len(name) > 15:
		return errors.New("interface names have at most 15 letters")
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n"):
		return fmt.Errorf("%q is no name of an interface", name)
	}
	return nil
}
