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
		for _, named := range portClauses(s) {
			rules = append(rules, when(named, goTo(to(s.Name))))
		}
	}
	return rules
}

// portClauses match what a service names, each a part of it: without ports,
// all protocols that have them.
func portClauses(s Service) []clause {
	if len(s.Ports) == 0 {
		return []clause{isProtocol(TCP), isProtocol(UDP), hasPorts()}
	}
	var clauses []clause
	for _, p := range s.Ports {
		clauses = append(clauses, destPort(p))
	}
	return clauses
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
