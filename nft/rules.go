package nft

import (
	"slices"

	"earshot/hashmode"
)

// hashed is the hash that decides about a packet.
type hashed struct {
	spec hashmode.Spec
	v6   bool
}

func hashOf(s Service) hashed { return hashed{s.Hash, s.Address.Is6()} }

// restHash decides about ports that no service names, and about what has no
// ports: the first service's hash of the source address (rule P22).
func restHash(a address) hashed {
	return hashed{a.Services[0].Hash.SourceOnly(), a.Addr.Is6()}
}

func (h hashed) in() clause { return bucketHash(h.spec, inbound(), h.v6) }

func (h hashed) out() clause { return bucketHash(h.spec, outbound(), h.v6) }

// byPort sends what a service names to the service's chain.
func byPort(a address, to func(service string) string) []rule {
	var rules []rule
	for _, s := range a.Services {
		for _, p := range s.Ports {
			rules = append(rules, when(destPort(p), goTo(to(s.Name))))
		}
		if len(s.Ports) == 0 {
			rules = append(rules,
				when(isProtocol(TCP), goTo(to(s.Name))),
				when(isProtocol(UDP), goTo(to(s.Name))),
				when(hasPorts(), goTo(to(s.Name))))
		}
	}
	return rules
}

// interfaces of the addresses, each once, in order.
func interfaces(all []address) []string {
	var names []string
	for _, a := range all {
		names = append(names, a.Interface)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
