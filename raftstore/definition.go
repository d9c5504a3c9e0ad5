package raftstore

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"earshot/hashmode"
)

// Definition is what a config file says of a service: the same on every node.
type Definition struct {
	Name    string       `json:"name"`
	Address netip.Prefix `json:"address"`
	// Interface is the usual name of the interface; a node's own config may
	// name another.
	Interface string        `json:"interface"`
	Hash      hashmode.Mode `json:"hash"`
	// Prefix is the length of the clients' networks, which hash mode sourcenet
	// goes by; 0 in every other.
	Prefix int `json:"prefix,omitempty"`
	// Ports are "tcp/80" and the like, sorted; none means everything sent to
	// the address.
	Ports      []string      `json:"ports,omitempty"`
	Buckets    int           `json:"buckets"`
	MAC        string        `json:"mac"`
	MACMode    string        `json:"mac_mode"`
	Drain      time.Duration `json:"drain"`
	OnFail     string        `json:"on_fail"`
	QuorumLoss string        `json:"quorum_loss"`
	// Balance is BalanceLoad for shares that follow the nodes' load; empty for
	// even ones.
	Balance string `json:"balance,omitempty"`
	// Fallback is FallbackRefuse for a service whose new flows are refused
	// while no node can serve it; empty for one that is answered all the same.
	Fallback string `json:"fallback,omitempty"`
}

// What happens to the flows of a node that falls ill (Definition.OnFail).
const (
	// OnFailDrain lets them end.
	OnFailDrain = "drain"
	// OnFailCut resets them.
	OnFailCut = "cut"
)

// HardwareAddr is the cluster MAC.
func (d Definition) HardwareAddr() net.HardwareAddr {
	mac, err := net.ParseMAC(d.MAC)
	if err != nil {
		return nil
	}
	return mac
}

// Field is one key of a definition, as a config file names it.
type Field struct {
	Key   string
	Value any
}

// Fields lists all that a definition says, in the order of the documentation.
// The interface does not count: nodes may name theirs differently.
func (d Definition) Fields() []Field {
	return []Field{
		{"address", d.Address},
		{"hash", d.Hash},
		{"prefix", d.Prefix},
		{"ports", d.Ports},
		{"buckets", d.Buckets},
		{"mac", d.MAC},
		{"mac_mode", d.MACMode},
		{"drain", d.Drain},
		{"on_fail", d.OnFail},
		{"quorum_loss", d.QuorumLoss},
		{"balance", d.balance()},
		{"fallback", d.fallback()},
	}
}

// Differences lists, in words, the keys in which two definitions of a service
// differ.
func (d Definition) Differences(e Definition) []string {
	var diffs []string
	other := e.Fields()
	for i, f := range d.Fields() {
		if have, want := fmt.Sprint(f.Value), fmt.Sprint(other[i].Value); have != want {
			diffs = append(diffs, fmt.Sprintf("%s: %s, not %s", f.Key, have, want))
		}
	}
	return diffs
}

// BalanceEven and BalanceLoad are what shares can go by.
const (
	BalanceEven = "even"
	BalanceLoad = "load"
)

// balance is what the shares go by.
func (d Definition) balance() string {
	if d.Balance == "" {
		return BalanceEven
	}
	return d.Balance
}

// What becomes of a service that no node can serve (Definition.Fallback).
const (
	// FallbackKeep has the nodes answer all the same.
	FallbackKeep = "keep"
	// FallbackRefuse has them refuse new flows at once.
	FallbackRefuse = "refuse"
)

// fallback is what becomes of the service when no node can serve it.
func (d Definition) fallback() string {
	if d.Fallback == "" {
		return FallbackKeep
	}
	return d.Fallback
}

// Check reports what makes the definition impossible beside the others: bad
// values, or a packet that two services would claim (rule P22).
func (d Definition) Check(others map[string]Service) error {
	if d.Name == "" {
		return fmt.Errorf("%w: a service without a name", ErrDefinition)
	}
	if !d.Address.IsValid() {
		return fmt.Errorf("%w: service %s: no address", ErrDefinition, d.Name)
	}
	spec := hashmode.Spec{Mode: d.Hash, Buckets: d.Buckets, Prefix: d.Prefix}
	if err := spec.Validate(); err != nil {
		return fmt.Errorf("%w: service %s: %w", ErrDefinition, d.Name, err)
	}
	if d.Prefix > d.Address.Addr().BitLen() {
		return fmt.Errorf("%w: service %s: prefix %d is longer than an address", ErrDefinition, d.Name, d.Prefix)
	}
	if d.HardwareAddr() == nil {
		return fmt.Errorf("%w: service %s: mac %q is no MAC address", ErrDefinition, d.Name, d.MAC)
	}
	if d.Balance != "" && d.Balance != BalanceLoad {
		return fmt.Errorf("%w: service %s: balance %q", ErrDefinition, d.Name, d.Balance)
	}
	if d.Fallback != "" && d.Fallback != FallbackRefuse {
		return fmt.Errorf("%w: service %s: fallback %q", ErrDefinition, d.Name, d.Fallback)
	}
	for _, name := range slices.Sorted(maps.Keys(others)) {
		if err := d.overlap(others[name].Definition); err != nil {
			return err
		}
	}
	return nil
}

// overlap reports a packet that both services would claim.
func (d Definition) overlap(e Definition) error {
	if d.Name == e.Name || d.Address.Addr() != e.Address.Addr() {
		return nil
	}
	clash := func(what string) error {
		return fmt.Errorf("%w: services %s and %s both answer %s on %s", ErrDefinition, e.Name, d.Name, what, d.Address.Addr())
	}
	if len(d.Ports) == 0 || len(e.Ports) == 0 {
		return clash("every port")
	}
	if d.MAC != e.MAC {
		return fmt.Errorf("%w: services %s and %s give %s two MACs, %s and %s", ErrDefinition, e.Name, d.Name, d.Address.Addr(), e.MAC, d.MAC)
	}
	var both []string
	for _, port := range d.Ports {
		if slices.Contains(e.Ports, port) {
			both = append(both, port)
		}
	}
	if len(both) > 0 {
		return clash(strings.Join(both, ", "))
	}
	return nil
}
