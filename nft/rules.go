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

// named matches a part of what a service names.
type named struct {
	clause
	tcp bool
}

// partsOf match what a service names, by destPort what comes in and by sourcePort
// what it sends: without ports, all protocols that have them.
func partsOf(s Service, port func(Port) clause) []named {
	if len(s.Ports) == 0 {
		return []named{{isTCP(), true}, {isProtocol(UDP), false}, {hasPorts(), false}}
	}
	var parts []named
	for _, p := range s.Ports {
		parts = append(parts, named{port(p), p.Protocol == TCP})
	}
	return parts
}

// portClauses match what comes in for a service, each a part of it.
func portClauses(s Service) []clause {
	var clauses []clause
	for _, part := range partsOf(s, destPort) {
		clauses = append(clauses, part.clause)
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
