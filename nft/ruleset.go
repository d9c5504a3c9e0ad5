package nft

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"earshot/hashmode"
)

// Ruleset is what this node's kernel is to hold: a plain value that says
// nothing of how the kernel holds it. Two equal rulesets render alike.
type Ruleset struct {
	// Index is the Raft log index of the map that the ruleset was made from.
	// It is written in the same transaction (rule P11) and never goes back.
	Index uint64
	// Hold has the rules hold what this node cannot judge alone (rule P24):
	// set it while Plane.Hold runs. Without it, or where the kernel has no
	// queue, buckets to take are as those to drain, and protocols without a SYN
	// are cut over at once (rule P19).
	Hold bool
	// Services, in any order; names are unique.
	Services []Service
}

// Service is one shared address (or some ports of one) and this node's part
// of its buckets.
type Service struct {
	Name      string
	Address   netip.Addr
	Interface string
	// MAC is the cluster MAC. A unicast one is a stealth MAC: no frame has it
	// as its source, so that switches bring frames to it to every node.
	MAC  net.HardwareAddr
	Hash hashmode.Spec
	// Ports that the service names; none means everything sent to Address.
	Ports []Port
	// Own, Inherit, Drain and Take are disjoint. Any other bucket is foreign.
	Own, Inherit, Drain hashmode.Set
	// Take has the buckets that this node is to take: what is not known here
	// is held until Decide.
	Take hashmode.Set
	// MayRefuse has the rules that Refuse needs stand ready. A kernel that cannot
	// refuse is left without them, and answers all the same.
	MayRefuse bool
	// Refuse has this node refuse, where it would answer, what opens a flow.
	// Flows that are known here go on.
	Refuse bool
	// CountNew has the kernel count the flows that begin, for NewFlows. One that
	// cannot is left without the rules.
	CountNew bool
}

// with is the ruleset as a kernel with such a queue can hold it, and the
// queue that it needs.
func (rs Ruleset) with(q Queue) (Ruleset, Queue) {
	if !rs.Hold {
		return rs, QueueNone
	}
	rs.Hold = q != QueueNone
	return rs, q
}

// check reports the first thing about the ruleset that no kernel could hold.
func (rs Ruleset) check() error {
	names := map[string]bool{}
	for _, s := range rs.Services {
		if names[s.Name] {
			return fmt.Errorf("%w: two services named %q", ErrInvalid, s.Name)
		}
		names[s.Name] = true
		if err := s.check(); err != nil {
			return fmt.Errorf("service %q: %w", s.Name, err)
		}
	}
	return nil
}

// maxName keeps the names of sets and chains below the kernel's 128 bytes.
const maxName = 100

func (s Service) check() error {
	if !validName(s.Name) {
		return fmt.Errorf("%w: name must start with a letter and have only letters, digits, '_', '-' and '.', at most %d", ErrInvalid, maxName)
	}
	if !s.Address.IsValid() {
		return fmt.Errorf("%w: no address", ErrInvalid)
	}
	if s.Address.Is4In6() || s.Address.Zone() != "" || s.Address.IsUnspecified() || s.Address.IsMulticast() {
		return fmt.Errorf("%w: address %s", ErrInvalid, s.Address)
	}
	if s.Interface == "" || len(s.Interface) > maxInterface {
		return fmt.Errorf("%w: interface %q", ErrInvalid, s.Interface)
	}
	if len(s.MAC) != 6 {
		return fmt.Errorf("%w: cluster MAC %q is no Ethernet address", ErrInvalid, s.MAC)
	}
	if stealth(s.MAC) && s.MAC[0]&2 == 0 {
		return fmt.Errorf("%w: stealth MAC %s may be that of a device; take a locally administered one, as in 02:…", ErrInvalid, s.MAC)
	}
	if err := s.Hash.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if s.Hash.Seed == 0 {
		// The kernel takes a missing seed, and the library leaves 0 out, for
		// "choose one": every node would hash differently.
		return fmt.Errorf("%w: hash seed 0", ErrInvalid)
	}
	for _, p := range s.Ports {
		if !p.Protocol.hasPorts() {
			return fmt.Errorf("%w: port %d of protocol %d", ErrInvalid, p.Number, p.Protocol)
		}
	}
	return s.checkBuckets()
}

func (s Service) checkBuckets() error {
	all := s.Own.Union(s.Inherit).Union(s.Drain).Union(s.Take)
	if all.Len() != s.Own.Len()+s.Inherit.Len()+s.Drain.Len()+s.Take.Len() {
		return fmt.Errorf("%w: a bucket is in two of own, inherit, drain and take", ErrInvalid)
	}
	for b := range all.All() {
		if int(b) >= s.Hash.Buckets {
			return fmt.Errorf("%w: bucket %d of %d", ErrInvalid, b, s.Hash.Buckets)
		}
	}
	return nil
}

// maxInterface is IFNAMSIZ without the closing zero byte.
const maxInterface = 15

// validName reports whether nft can print the name and read it again.
func validName(name string) bool {
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || !(r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.')) {
			return false
		}
	}
	return name != "" && len(name) <= maxName
}

// address is one shared address with its services, in order of their names.
// The first of them decides about what no service's ports name (rule P22).
type address struct {
	Addr      netip.Addr
	Interface string
	MAC       net.HardwareAddr
	Services  []Service
}

// addresses groups services by address, in order, and refuses what does not
// go together.
func addresses(services []Service) ([]address, error) {
	services = slices.Clone(services)
	slices.SortFunc(services, func(a, b Service) int {
		return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Name, b.Name))
	})
	var all []address
	for _, s := range services {
		if n := len(all); n > 0 && all[n-1].Addr == s.Address {
			if err := all[n-1].join(s); err != nil {
				return nil, err
			}
			continue
		}
		all = append(all, address{s.Address, s.Interface, s.MAC, []Service{s}})
	}
	return all, nil
}

// byAddress is addresses, to look them up.
func byAddress(services []Service) (map[netip.Addr]address, error) {
	all, err := addresses(services)
	if err != nil {
		return nil, err
	}
	found := map[netip.Addr]address{}
	for _, a := range all {
		found[a.Addr] = a
	}
	return found, nil
}

// join adds a service to those of its address.
func (a *address) join(s Service) error {
	first := a.Services[0]
	if s.Interface != a.Interface || s.MAC.String() != a.MAC.String() {
		return fmt.Errorf("%w: services %q and %q have address %s, but not the same interface and MAC", ErrInvalid, first.Name, s.Name, a.Addr)
	}
	for _, other := range a.Services {
		if overlap(other, s) {
			return fmt.Errorf("%w: services %q and %q overlap on %s", ErrInvalid, other.Name, s.Name, a.Addr)
		}
	}
	a.Services = append(a.Services, s)
	return nil
}

// overlap reports whether two services of one address both name a port.
func overlap(a, b Service) bool {
	if len(a.Ports) == 0 || len(b.Ports) == 0 {
		return true
	}
	return slices.ContainsFunc(a.Ports, func(p Port) bool { return slices.Contains(b.Ports, p) })
}

// decider returns the service that decides about a packet to the address and
// the hash that it decides by: the one place that says rule P22 in Go.
func (a address) decider(protocol uint8, dport uint16) (Service, hashmode.Spec) {
	for _, s := range a.Services {
		everything := len(s.Ports) == 0 && Protocol(protocol).hasPorts()
		if everything || slices.Contains(s.Ports, Port{Protocol(protocol), dport}) {
			return s, s.Hash
		}
	}
	return a.Services[0], a.Services[0].Hash.SourceOnly()
}
