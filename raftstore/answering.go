package raftstore

// Answering tells which nodes can be given buckets of a service: those that
// serve it. If there is none, those that pass the check for that case; if none
// does, all that could answer at all: better they do than nobody.
func (s *State) Answering(service string) map[string]bool {
	nodes, _ := s.answering(service)
	return nodes
}

// Refuses reports that new flows of the service are to be refused: no node can
// serve it, and that is its wish for this case.
func (s *State) Refuses(service string) bool {
	return s.Services[service].Fallback == FallbackRefuse && s.Forsaken(service)
}

// Forsaken reports that no node serves the service, and none passes the check
// for that case.
func (s *State) Forsaken(service string) bool {
	_, rank := s.answering(service)
	return rank > passing
}

// The ranks of nodes, the best first.
const (
	serving = iota
	passing // the check for the case that nobody serves
	there
	nobody
)

// answering returns the nodes of the best rank that any has, and the rank.
func (s *State) answering(service string) (map[string]bool, int) {
	best := nobody
	nodes := map[string]bool{}
	for name, n := range s.Nodes {
		rank := n.rank(service)
		if rank == nobody || rank > best {
			continue
		}
		if rank < best {
			best = rank
			clear(nodes)
		}
		nodes[name] = true
	}
	return nodes, best
}

func (n Node) rank(service string) int {
	passes, spare := n.Spare[service]
	switch {
	case n.Serves(service):
		return serving
	case !n.In() || !spare:
		return nobody
	case passes:
		return passing
	}
	return there
}
