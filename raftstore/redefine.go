package raftstore

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"earshot/hashmode"
)

// Redefine changes services for the whole cluster at once: all of its changes,
// or none.
type Redefine struct {
	Changes []Redefinition `json:"changes"`
	// Fresh: they are new services of a node's config, and come from no operator:
	// the leader does not commit one that was removed. No entry of the log has it.
	Fresh bool `json:"fresh,omitempty"`
}

// Redefinition is the change of one service.
type Redefinition struct {
	Service string `json:"service"`
	// Was is what the change was made from; none for a new service. If the
	// cluster has something else meanwhile, nothing is changed.
	Was *Definition `json:"was,omitempty"`
	// Definition is what the service is to be; none removes it.
	Definition *Definition `json:"definition,omitempty"`
	// Seed of a new service. Another one keeps its own.
	Seed uint32 `json:"seed,omitempty"`
}

// fixedFields are the keys that cannot change under a service's name: clients
// and routers know them, and would send where nobody answers any more.
func fixedFields() []string { return []string{"address", "mac", "mac_mode"} }

// redefine changes services, and sees to it that every open flow stays with
// its node: where packets come into other buckets than before, each node that
// may have flows there becomes a former owner of all those buckets.
func (s *State) redefine(index uint64, c Redefine) (bool, error) {
	if len(c.Changes) == 0 {
		return false, fmt.Errorf("redefine: %w: it changes nothing", ErrCommand)
	}
	before := maps.Clone(s.Services)
	s.Removed = maps.Clone(s.Removed)
	for _, change := range c.Changes {
		if err := s.replace(change); err != nil {
			return false, err
		}
	}
	for _, change := range c.Changes {
		if change.Definition == nil {
			continue
		}
		if err := change.Definition.Check(s.Services); err != nil {
			return false, err
		}
	}
	for _, name := range s.ServiceNames() {
		after := s.Services[name]
		if !shaken(before, s.Services, after) {
			continue
		}
		former := s.holders(before, after.Address.Addr())
		for _, node := range former {
			if !s.Nodes[node].Follows() {
				return false, fmt.Errorf("redefine %s: %w: %s", name, ErrRestarting, node)
			}
		}
		after.Map, after.Remapped = after.remap(before[name], index, former), index
		after.Shares = nil // of buckets that are no more
		s.Services[name] = after
	}
	return !reflect.DeepEqual(before, s.Services), nil
}

// replace puts a definition in the place of the one that the change names.
func (s *State) replace(c Redefinition) error {
	have, known := s.Services[c.Service]
	switch {
	case c.Was == nil && c.Definition == nil:
		return fmt.Errorf("redefine %s: %w: neither from nor to anything", c.Service, ErrCommand)
	case c.Definition != nil && c.Definition.Name != c.Service:
		return fmt.Errorf("redefine %s: %w: to %s", c.Service, ErrCommand, c.Definition.Name)
	case c.Was == nil && known, c.Was != nil && !known, known && len(have.Differences(*c.Was)) > 0:
		return fmt.Errorf("redefine %s: %w", c.Service, ErrRedefined)
	case c.Definition == nil:
		delete(s.Services, c.Service)
		if s.Removed == nil {
			s.Removed = map[string]bool{}
		}
		s.Removed[c.Service] = true
		return nil
	case !known && c.Seed == 0:
		return fmt.Errorf("%w: service %s without a seed", ErrDefinition, c.Service)
	case !known:
		if delete(s.Removed, c.Service); len(s.Removed) == 0 {
			s.Removed = nil // as a state from a snapshot has it
		}
		s.Services[c.Service] = Service{Definition: *c.Definition, Seed: c.Seed, Map: make(Map, max(c.Definition.Buckets, 0))}
		return nil
	}
	if err := have.Fixed(*c.Definition); err != nil {
		return err
	}
	have.Definition = *c.Definition
	s.Services[c.Service] = have
	return nil
}

// Fixed reports a change that a service cannot go through.
func (d Definition) Fixed(e Definition) error {
	other := e.Fields()
	for i, f := range d.Fields() {
		if slices.Contains(fixedFields(), f.Key) && fmt.Sprint(f.Value) != fmt.Sprint(other[i].Value) {
			return fmt.Errorf("%w: service %s: %s %v to %v", ErrFixed, d.Name, f.Key, f.Value, other[i].Value)
		}
	}
	return nil
}

// verdict is who decides about a packet, and how.
type verdict struct {
	service string
	hash    hashmode.Spec
}

// strayPort stands for a port that no service names, and noPort for a packet
// without one.
const (
	strayPort = "*"
	noPort    = ""
)

// decider says who decides about packets to a port of the address (rule P22).
func decider(services map[string]Service, addr netip.Addr, port string) verdict {
	first := ""
	for _, name := range slices.Sorted(maps.Keys(services)) {
		v := services[name]
		if v.Address.Addr() != addr {
			continue
		}
		if first == "" {
			first = name
		}
		if len(v.Ports) == 0 && port != noPort || slices.Contains(v.Ports, port) {
			return verdict{name, v.hash()}
		}
	}
	if first == "" {
		return verdict{}
	}
	return verdict{first, services[first].hash().SourceOnly()}
}

// hash is the hash by the definition: the map may have another length yet.
func (s Service) hash() hashmode.Spec {
	return hashmode.Spec{Mode: s.Hash, Buckets: s.Buckets, Seed: s.Seed, Prefix: s.Prefix}
}

// shaken reports whether the service decides about packets that came into
// another bucket, or another service's, before.
func shaken(before, after map[string]Service, v Service) bool {
	addr := v.Address.Addr()
	ports := []string{strayPort, noPort}
	for _, services := range []map[string]Service{before, after} {
		for _, other := range services {
			if other.Address.Addr() == addr {
				ports = append(ports, other.Ports...)
			}
		}
	}
	return slices.ContainsFunc(ports, func(port string) bool {
		now := decider(after, addr, port)
		return now.service == v.Name && now != decider(before, addr, port)
	})
}

// holders are the nodes, sorted, that may have flows of any service of the
// address. The dead have none that anybody could save.
func (s *State) holders(services map[string]Service, addr netip.Addr) []string {
	holds := map[string]bool{}
	for _, v := range services {
		if v.Address.Addr() != addr {
			continue
		}
		for _, slot := range v.Map {
			holds[slot.Owner] = true
			for _, node := range slot.From {
				holds[node] = true
			}
		}
	}
	maps.DeleteFunc(holds, func(node string, _ bool) bool {
		n, ok := s.Nodes[node]
		return !ok || n.Failed
	})
	return slices.Sorted(maps.Keys(holds))
}

// remap is the map of a service whose buckets get other packets than before:
// the shares stay as they are, as well as the number of buckets allows, and
// every holder may have flows everywhere.
func (s Service) remap(before Service, index uint64, former []string) Map {
	next := make(Map, s.Buckets)
	same := s.hash() == before.hash()
	from := map[string][]string{}
	for b := range next {
		slot := Slot{Since: index}
		if n := len(before.Map); n > 0 {
			old := before.Map[b*n/len(next)]
			slot.Owner = old.Owner
			if same { // else the number means other clients
				slot.Pin = old.Pin
			}
		}
		if _, ok := from[slot.Owner]; !ok {
			from[slot.Owner] = Slot{From: former}.without(slot.Owner).From
		}
		slot.From = from[slot.Owner]
		next[b] = slot
	}
	return next
}

// Shaken names the services that a change of definitions gives other packets,
// sorted: their open flows stay where they are, and their new ones wait until
// all nodes have taken the change in.
func (s *State) Shaken(c Redefine) ([]string, error) {
	next := s.clone()
	if _, err := next.redefine(s.Index+1, c); err != nil {
		return nil, err
	}
	var names []string
	for _, name := range next.ServiceNames() {
		if shaken(s.Services, next.Services, next.Services[name]) && len(s.holders(s.Services, next.Services[name].Address.Addr())) > 0 {
			names = append(names, name)
		}
	}
	return names, nil
}

// String is the change in words, for logs.
func (c Redefine) String() string {
	var words []string
	for _, change := range c.Changes {
		switch {
		case change.Was == nil:
			words = append(words, change.Service+" new")
		case change.Definition == nil:
			words = append(words, change.Service+" removed")
		default:
			words = append(words, change.Service+" changed")
		}
	}
	return strings.Join(words, ", ")
}
