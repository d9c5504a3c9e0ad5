package main

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"earshot/hashmode"
	"earshot/nft"
	"earshot/raftstore"
)

// convertServices gives each service its types, by name. A witness needs none.
func (l *loader) convertServices(raw map[string]rawService, witness bool) []raftstore.Definition {
	refused := func(p problem) bool { return strings.HasPrefix(p.Key, "services") }
	if len(raw) == 0 && !witness && !slices.ContainsFunc(l.problems, refused) {
		l.advise("name at least one service; docs/earshot.example.yaml has one", "services", "missing")
	}
	var definitions []raftstore.Definition
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		before := len(l.problems)
		d := l.convertService(name, raw[name])
		if len(l.problems) == before {
			l.checkBeside(d, definitions)
		}
		definitions = append(definitions, d)
	}
	return definitions
}

func (l *loader) convertService(name string, raw rawService) raftstore.Definition {
	key := func(k string) string { return serviceKey(name, k) }
	d := raftstore.Definition{
		Name:       name,
		Address:    l.address(key("address"), raw.Address),
		Interface:  raw.Interface,
		Hash:       l.hash(key("hash"), raw.Hash),
		Ports:      l.ports(key("ports"), raw.Ports),
		Buckets:    l.buckets(key("buckets"), raw.Buckets),
		MACMode:    l.oneOf(key("mac_mode"), raw.MACMode, "multicast", macStealth),
		Drain:      l.duration(key("drain"), raw.Drain),
		OnFail:     l.oneOf(key("on_fail"), raw.OnFail, raftstore.OnFailDrain, raftstore.OnFailCut),
		QuorumLoss: l.oneOf(key("quorum_loss"), raw.QuorumLoss, "fence"),
	}
	d.Prefix = l.prefix(key("prefix"), raw.Prefix, d.Address.Addr(), d.Hash)
	if l.oneOf(key("balance"), raw.Balance, raftstore.BalanceEven, raftstore.BalanceLoad) == raftstore.BalanceLoad {
		d.Balance = raftstore.BalanceLoad
	}
	if l.oneOf(key("fallback"), raw.Fallback, raftstore.FallbackKeep, raftstore.FallbackRefuse) == raftstore.FallbackRefuse {
		d.Fallback = raftstore.FallbackRefuse
	}
	d.MAC = l.mac(key("mac"), raw.MAC, d.Address, d.MACMode)
	if d.Drain < 0 {
		l.refuse(key("drain"), "%v is below zero", d.Drain)
	}
	if raw.Interface == "" {
		l.refuse(key("interface"), "missing")
	} else if err := checkInterface(raw.Interface); err != nil {
		l.refuse(key("interface"), "%v", err)
	}
	return d
}

// address reads a shared address and its prefix length, and refuses what no
// host can have.
func (l *loader) address(key, s string) netip.Prefix {
	if s == "" {
		l.refuse(key, "missing")
		return netip.Prefix{}
	}
	if l.later(key, s) {
		return netip.Prefix{}
	}
	if ip, err := netip.ParseAddr(s); err == nil {
		l.advise(fmt.Sprintf("write it as in %s/24, with the length that the network has", ip), key, "%s has no prefix length", s)
		return netip.Prefix{}
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		l.refuse(key, "%q is not an address with a prefix length, as in 192.168.56.20/24", s)
		return netip.Prefix{}
	}
	if what := unusable(p); what != "" {
		l.refuse(key, "%s is %s; no host can have it", s, what)
	}
	return p
}

// unusable says what an address is that no host can have.
func unusable(p netip.Prefix) string {
	ip := p.Addr()
	switch {
	case ip.IsLoopback():
		return "a loopback address"
	case ip.IsMulticast():
		return "a multicast address"
	case ip.IsUnspecified():
		return "no address"
	case ip.Is4In6():
		return "an IPv4 address in the clothes of IPv6"
	case p.Bits() == 0:
		return "an address in a network of length 0"
	case ip.Is6():
		return ""
	case ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "the broadcast address"
	case ip.As4()[0] == 0 || ip.As4()[0] >= 240:
		return "a reserved address"
	case p.Bits() >= 31: // has neither
		return ""
	case ip == p.Masked().Addr():
		return "the address of the network itself"
	case ip == broadcast(p):
		return "the broadcast address of its network"
	}
	return ""
}

// broadcast is the last address of an IPv4 network.
func broadcast(p netip.Prefix) netip.Addr {
	ip := p.Addr().As4()
	mask := net.CIDRMask(p.Bits(), 32)
	for i := range ip {
		ip[i] |= ^mask[i]
	}
	return netip.AddrFrom4(ip)
}

func (l *loader) hash(key, s string) hashmode.Mode {
	mode, err := hashmode.ParseMode(s)
	if err != nil {
		l.refuse(key, "%v", err)
	}
	return mode
}

// prefix reads the length of the clients' networks, which one hash mode has.
func (l *loader) prefix(key, s string, address netip.Addr, mode hashmode.Mode) int {
	switch {
	case mode != hashmode.SourceNet && l.given(key):
		l.advise("take hash: sourcenet, or leave the key out", key, "is for hash: %s alone", hashmode.SourceNet)
		return 0
	case mode != hashmode.SourceNet || !address.IsValid():
		return 0
	case !l.given(key):
		return hashmode.DefaultPrefix(address.Is6())
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > address.BitLen() {
		l.refuse(key, "%s is out of range (1 to %d)", s, address.BitLen())
	}
	return n
}

func (l *loader) buckets(key, s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > hashmode.MaxBuckets {
		l.refuse(key, "%s is out of range (1 to %d)", s, hashmode.MaxBuckets)
	}
	return n
}

// ports reads "tcp/80" and the like, sorts them and refuses doubles.
func (l *loader) ports(key string, list []string) []string {
	if list != nil && len(list) == 0 {
		l.refuse(key, "is empty; leave the key out to answer every port")
	}
	ports := slices.Clone(list)
	slices.Sort(ports)
	for i, s := range ports {
		if err := checkPort(s); err != nil {
			l.refuse(key, "%v", err)
		} else if i > 0 && ports[i-1] == s {
			l.refuse(key, "%s is named twice", s)
		}
	}
	return ports
}

// checkPort judges the name of a port, "tcp/80".
func checkPort(s string) error {
	_, number, _ := strings.Cut(s, "/")
	if _, err := nft.ParsePort(s); err == nil {
		return nil
	}
	if _, err := nft.ParsePort(strings.TrimSuffix(s, number) + "1"); err != nil || number == "" {
		return fmt.Errorf("%q is no port (write it as in tcp/80, udp/53 or sctp/3868)", s)
	}
	_, err := parsePortNumber(number)
	return fmt.Errorf("%q: %w", s, err)
}

// checkBeside judges a service beside those before it.
func (l *loader) checkBeside(d raftstore.Definition, before []raftstore.Definition) {
	others := map[string]raftstore.Service{}
	for _, e := range before {
		others[e.Name] = raftstore.Service{Definition: e}
		if d.Address.Addr() != e.Address.Addr() {
			continue
		}
		if d.Address != e.Address {
			l.refuse(serviceKey(d.Name, "address"), "%s is %s in service %s", d.Address, e.Address, e.Name)
			return
		}
		if d.Interface != e.Interface {
			l.refuse(serviceKey(d.Name, "interface"), "%s is on %s in service %s", d.Address.Addr(), e.Interface, e.Name)
			return
		}
	}
	if err := d.Check(others); err != nil {
		l.refuse("services."+d.Name, "%s", strings.TrimPrefix(err.Error(), raftstore.ErrDefinition.Error()+": "))
	}
}

// strangers refuses services on the nodes' own addresses: those must stay
// with one node each.
func (l *loader) strangers(cfg config) {
	owners := map[netip.Addr]string{}
	own := func(listen, whose string) {
		host, _, _ := net.SplitHostPort(listen)
		if ip, err := netip.ParseAddr(host); err == nil { // else a name or an interface
			owners[ip.Unmap()] = whose
		}
	}
	for _, peer := range cfg.Peers {
		own(peer, "that of a peer")
	}
	own(cfg.Listen, "this node's own")
	for _, d := range cfg.Services {
		if !d.Address.IsValid() {
			continue
		}
		if whose, ok := owners[d.Address.Addr()]; ok {
			l.advise("take an address that no machine has: the nodes are to share it", serviceKey(d.Name, "address"),
				"%s is %s", d.Address.Addr(), whose)
		}
	}
}
