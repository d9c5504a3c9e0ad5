package raftstore

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"earshot/hashmode"
)

// StateVersion is the newest format of State in snapshots that this program
// reads. Format 2 brought the nodes' roles and what they read, format 3 the
// services that were removed, the hash mode sourcenet, and how nodes behave,
// format 4 the nodes' leases.
const StateVersion = 4

// State is the replicated state of a cluster: a plain value, the same on
// every node that has applied the same log. A State that has been published
// is never written to again; Apply makes a new one.
type State struct {
	// Index is the log index of the command that made this state.
	Index uint64 `json:"index"`
	// Epoch rises with every command that changed something.
	Epoch    uint64             `json:"epoch"`
	Nodes    map[string]Node    `json:"nodes"`
	Services map[string]Service `json:"services"`
	// Removed names services that were taken out: a node that has one in its
	// config still must not define it again. The map is shared: never write to it.
	Removed map[string]bool `json:"removed,omitempty"`
	// Formed: the first formation of the cluster is over.
	Formed bool `json:"formed,omitempty"`
}

// Node is a member of the cluster.
type Node struct {
	Name string `json:"name"`
	// ServerID is the random id of the node's data directory (rule P9).
	ServerID string `json:"server_id"`
	Listen   string `json:"listen"`
	Weight   int    `json:"weight"`
	// Witness: the node votes and never answers.
	Witness bool `json:"witness,omitempty"`
	// Reads is the newest format of commands that the node reads; none is 1.
	Reads int `json:"reads,omitempty"`
	// NoQueue: the node's kernel cannot hold packets (rule P24).
	NoQueue bool `json:"no_queue,omitempty"`
	// Out is the operator's wish that the node answer nothing new.
	Out bool `json:"out,omitempty"`
	// Cut says that a node that is out does not wait for its flows to end.
	Cut bool `json:"cut,omitempty"`
	// Failed says that a leader judged the node dead and has not heard of it
	// again since.
	Failed bool `json:"failed,omitempty"`
	// Changed is the index of the last Join, Death or Return of the node. A
	// lease granted for an older map is not for this incarnation.
	Changed uint64 `json:"changed"`
	// Rest is the length of the restart lease that the node may hold, beyond
	// the ordinary one; zero for none.
	Rest time.Duration `json:"rest,omitempty"`
	// Lease is the longest lease that the node's kernel may hold, but for that;
	// zero if nobody said, as when a member was too old to read it. Nodes differ
	// in it while it is being changed.
	Lease time.Duration `json:"lease,omitempty"`
	// RestBy is the agent process that last asked for one; only a later one
	// can say that it is over.
	RestBy int64 `json:"rest_by,omitempty"`
	// Unfit says, by service, why the node cannot serve it now though it is
	// alive. The map is shared: never write to it.
	Unfit map[string]string `json:"unfit,omitempty"`
	// Spare has, of the services that the node is unfit for, those that it can
	// answer for all the same if nobody serves them: true if it passes the
	// check for that case. The map is shared: never write to it.
	Spare map[string]bool `json:"spare,omitempty"`
	// Held: the node came, or came back, and has to prove itself before it is
	// given buckets that another can have.
	Held bool `json:"held,omitempty"`
	// Losses counts how often, lately, the node was lost: to the cluster under
	// "", to a service under its name. The map is shared: never write to it.
	Losses map[string]int `json:"losses,omitempty"`
	// Prefer has, by service, the buckets that the node would have rather than
	// others, as hashmode.Set writes them. The map is shared: never write to it.
	Prefer map[string]string `json:"prefer,omitempty"`
}

// Serves reports whether the node can be given buckets of the service.
func (n Node) Serves(service string) bool {
	_, unfit := n.Unfit[service]
	return n.In() && !unfit
}

// Holds reports whether packets that a node cannot judge alone are held and
// asked about (rule P24): all nodes have to do it, or none. Two that differ
// would both answer one flow, or neither.
func (s *State) Holds() bool {
	for _, n := range s.Nodes {
		if n.NoQueue && !n.Witness {
			return false
		}
	}
	return true
}

// Follows reports whether the node takes in new maps: one that restarts is
// waited for, and can neither release a bucket nor take one meanwhile.
func (n Node) Follows() bool { return n.Rest == 0 }

// In reports whether the node takes part, whatever it is fit for.
func (n Node) In() bool { return !n.Out && !n.Failed && !n.Witness }

// equal reports whether two nodes are the same in everything.
func (n Node) equal(m Node) bool { return reflect.DeepEqual(n, m) }

// Service is a service's definition and its map.
type Service struct {
	Definition
	Seed uint32 `json:"seed"`
	// Remapped is the index at which packets came into other buckets than
	// before: a bucket's number means nothing older. Zero for never.
	Remapped uint64 `json:"remapped,omitempty"`
	// Map has one slot for each bucket.
	Map Map `json:"map"`
	// Shares are what the nodes had, by name, when the load last moved a bucket:
	// uneven ones that are to stay. The map is shared: never write to it.
	Shares map[string]Share `json:"shares,omitempty"`
}

// Spec is the hash of the service.
func (s Service) Spec() hashmode.Spec {
	return hashmode.Spec{Mode: s.Hash, Buckets: len(s.Map), Seed: s.Seed, Prefix: s.Prefix}
}

// Slot says who answers for one bucket.
type Slot struct {
	// Owner is the node that opens flows; empty only before the first plan.
	Owner string `json:"owner"`
	// Since is the index of the last change of owner.
	Since uint64 `json:"since"`
	// From names, sorted, the other nodes that may still have flows in the
	// bucket (rule P12). The slice is shared: never write to it.
	From []string `json:"from,omitempty"`
	// Pin names the node that the operator gave the bucket to by hand.
	Pin string `json:"pin,omitempty"`
}

// equal reports whether two slots say the same.
func (s Slot) equal(t Slot) bool {
	return s.Owner == t.Owner && s.Since == t.Since && s.Pin == t.Pin && slices.Equal(s.From, t.From)
}

// moved returns the slot after a move to the node, committed at index. The
// old owner joins the set of those that may have flows.
func (s Slot) moved(to string, index uint64) Slot {
	if s.Owner == to {
		return s
	}
	from := slices.Clone(s.From)
	if s.Owner != "" {
		from = append(from, s.Owner)
	}
	slices.Sort(from)
	return Slot{Owner: to, Since: index, From: slices.Compact(from), Pin: s.Pin}.without(to)
}

// without returns the slot with the node taken out of From.
func (s Slot) without(node string) Slot {
	if slices.Contains(s.From, node) {
		s.From = slices.DeleteFunc(slices.Clone(s.From), func(n string) bool { return n == node })
	}
	if len(s.From) == 0 {
		s.From = nil // as a state from a snapshot has it
	}
	return s
}

// Map is a service's slots, indexed by bucket. In JSON, runs of equal slots
// are written once.
type Map []Slot

// run is a stretch of equal slots.
type run struct {
	Count int `json:"n"`
	Slot
}

// MarshalJSON writes the map as runs of equal slots.
func (m Map) MarshalJSON() ([]byte, error) {
	runs := []run{}
	for _, slot := range m {
		if n := len(runs); n > 0 && runs[n-1].Slot.equal(slot) {
			runs[n-1].Count++
			continue
		}
		runs = append(runs, run{Count: 1, Slot: slot})
	}
	return json.Marshal(runs)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (m *Map) UnmarshalJSON(data []byte) error {
	var runs []run
	if err := json.Unmarshal(data, &runs); err != nil {
		return err
	}
	var slots Map
	for _, r := range runs {
		if r.Count < 1 || len(slots)+r.Count > hashmode.MaxBuckets {
			return fmt.Errorf("map run of %d slots after %d", r.Count, len(slots))
		}
		for range r.Count {
			slots = append(slots, r.Slot)
		}
	}
	*m = slots
	return nil
}

// NewState returns the state of a cluster that has no node and no service.
func NewState() *State {
	return &State{Nodes: map[string]Node{}, Services: map[string]Service{}}
}

// clone returns a state whose nodes and services can be replaced without
// touching s. Maps are shared: edit copies one before it is written.
func (s *State) clone() *State {
	c := *s
	c.Nodes = maps.Clone(s.Nodes)
	c.Services = maps.Clone(s.Services)
	return &c
}

// edit gives the state a copy of its own of every service's map and calls f
// for each slot; the slot becomes what f returns.
func (s *State) edit(f func(service string, b hashmode.Bucket, slot Slot) Slot) {
	for name, service := range s.Services {
		service.Map = slices.Clone(service.Map)
		for b, slot := range service.Map {
			service.Map[b] = f(name, hashmode.Bucket(b), slot)
		}
		s.Services[name] = service
	}
}

// NodeNames returns the names of all nodes, sorted.
func (s *State) NodeNames() []string { return slices.Sorted(maps.Keys(s.Nodes)) }

// ServiceNames returns the names of all services, sorted.
func (s *State) ServiceNames() []string { return slices.Sorted(maps.Keys(s.Services)) }

// snapshot is the stored form of a State.
type snapshot struct {
	Version int    `json:"version"`
	State   *State `json:"state"`
}

// Encode writes the state in the oldest format that has all of it.
func (s *State) Encode() ([]byte, error) {
	return json.Marshal(snapshot{Version: s.format(), State: s})
}

// DecodeState reads what Encode writes. It wraps ErrVersion for a snapshot of
// a newer format.
func DecodeState(data []byte) (*State, error) {
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, fmt.Errorf("decode snapshot: %w", err)
	}
	if version.Version < 1 || version.Version > StateVersion {
		return nil, fmt.Errorf("decode snapshot: %w: format %d, this program reads %d", ErrVersion, version.Version, StateVersion)
	}
	snap := snapshot{State: NewState()}
	if err := json.Unmarshal(data, &snap); err != nil {
		return nil, fmt.Errorf("decode snapshot: %w", err)
	}
	return snap.State, nil
}

// Without returns the state as it would be with the node failed, to plan its
// death from.
func (s *State) Without(node string) *State {
	c := s.clone()
	if n, ok := c.Nodes[node]; ok {
		n.Failed = true
		c.Nodes[node] = n
	}
	return c
}
