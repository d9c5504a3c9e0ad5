package raftstore

import (
	"fmt"
	"maps"
	"slices"

	"earshot/hashmode"
)

// Apply returns the state after the command of the given log index and term.
// It is a pure function of its arguments, so every node that applies the same
// log has the same state. An error says why the command changed nothing; the
// state returned is valid all the same and has taken the index.
func (s *State) Apply(index, term uint64, c Command) (*State, error) {
	next := s.clone()
	changed, err := next.apply(index, term, c)
	if err != nil {
		next = s.clone()
		changed = false
	}
	next.Index = index
	if changed {
		next.Epoch++
	}
	return next, err
}

// apply writes the command's effect into s, which is the caller's own, and
// reports whether there was any.
func (s *State) apply(index, term uint64, c Command) (bool, error) {
	switch {
	case c.Tick != nil:
		return false, nil
	case c.Join != nil:
		return s.join(index, term, *c.Join)
	case c.Define != nil:
		return s.define(*c.Define)
	case c.Wish != nil:
		return s.wish(*c.Wish)
	case c.Assign != nil:
		return s.assign(index, *c.Assign)
	case c.Pin != nil:
		return s.pin(index, *c.Pin)
	case c.EndDrain != nil:
		return s.endDrain(*c.EndDrain)
	case c.Death != nil:
		return s.death(index, term, *c.Death)
	case c.Return != nil:
		return s.comeBack(index, term, *c.Return)
	case c.Rest != nil:
		return s.rest(*c.Rest)
	case c.Fitness != nil:
		return s.fitness(*c.Fitness)
	case c.Forget != nil:
		return s.forget(index, term, *c.Forget)
	case c.Redefine != nil:
		return s.redefine(index, *c.Redefine)
	case c.Profile != nil:
		return s.profile(*c.Profile)
	case c.Formed != nil:
		return s.formed(term, *c.Formed)
	case c.Credit != nil:
		return s.credit(term, *c.Credit)
	}
	return false, fmt.Errorf("apply: %w: it says nothing", ErrCommand)
}

func (s *State) node(name string) (Node, error) {
	n, ok := s.Nodes[name]
	if !ok {
		return Node{}, fmt.Errorf("%w %q", ErrUnknownNode, name)
	}
	return n, nil
}

func (s *State) service(name string) (Service, error) {
	v, ok := s.Services[name]
	if !ok {
		return Service{}, fmt.Errorf("%w %q", ErrUnknownService, name)
	}
	return v, nil
}

func (s *State) join(index, term uint64, c Join) (bool, error) {
	if c.Name == "" || c.ServerID == "" {
		return false, fmt.Errorf("join: %w: no name or id", ErrCommand)
	}
	old, known := s.Nodes[c.Name]
	if c.Term > 0 && c.Term != term {
		return false, fmt.Errorf("join of %s in another's place: %w (%d, now %d)", c.Name, ErrTerm, c.Term, term)
	}
	n := old
	n.Name, n.ServerID, n.Listen, n.Weight = c.Name, c.ServerID, c.Listen, c.Weight
	n.Witness, n.Reads, n.NoQueue, n.Lease = c.Witness, c.Reads, c.NoQueue, c.lease(old)
	if known && n.equal(old) {
		return false, nil
	}
	if old.ServerID != c.ServerID {
		n.Changed, n.Failed, n.Rest, n.RestBy, n.Unfit, n.Spare = index, false, 0, 0, nil, nil
		n = s.onProbation(n)
	}
	s.Nodes[c.Name] = n
	return true, nil
}

func (s *State) define(c Define) (bool, error) {
	if have, ok := s.Services[c.Definition.Name]; ok {
		if diffs := have.Differences(c.Definition); len(diffs) > 0 {
			return false, fmt.Errorf("%w: %s: %v", ErrDiffers, have.Name, diffs)
		}
		return false, nil
	}
	if s.Removed[c.Definition.Name] {
		return false, fmt.Errorf("%w: %s", ErrRemoved, c.Definition.Name)
	}
	if err := c.Definition.Check(s.Services); err != nil {
		return false, err
	}
	if c.Seed == 0 {
		return false, fmt.Errorf("%w: service %s without a seed", ErrDefinition, c.Definition.Name)
	}
	s.Services[c.Definition.Name] = Service{
		Definition: c.Definition,
		Seed:       c.Seed,
		Map:        make(Map, c.Definition.Buckets),
	}
	return true, nil
}

func (s *State) wish(c Wish) (bool, error) {
	n, err := s.node(c.Node)
	if err != nil {
		return false, err
	}
	if n.Witness {
		return false, fmt.Errorf("%w: %s has no buckets to give or to take", ErrWitness, c.Node)
	}
	old := n
	n.Out, n.Cut = c.Out, c.Out && c.Cut
	if !c.Out {
		n = n.trusted() // the operator says so
	}
	if n.equal(old) {
		return false, nil
	}
	s.Nodes[c.Node] = n
	if c.Out && !s.anyIn() {
		return false, fmt.Errorf("take out %s: %w", c.Node, ErrLastNode)
	}
	return true, nil
}

func (s *State) anyIn() bool {
	for _, n := range s.Nodes {
		if n.In() {
			return true
		}
	}
	return false
}

func (s *State) assign(index uint64, c Assign) (bool, error) {
	if c.Epoch != s.Epoch {
		return false, fmt.Errorf("assign: %w (epoch %d, now %d)", ErrStale, c.Epoch, s.Epoch)
	}
	if err := s.move(index, c.Moves); err != nil {
		return false, err
	}
	return len(c.Moves) > 0, s.keepShares(c.Shares)
}

// move carries out moves of any kind.
func (s *State) move(index uint64, moves []Move) error {
	target := map[string]map[hashmode.Bucket]string{}
	for _, m := range moves {
		set, err := s.targets(m)
		if err != nil {
			return err
		}
		if target[m.Service] == nil {
			target[m.Service] = map[hashmode.Bucket]string{}
		}
		for b := range set.All() {
			target[m.Service][b] = m.To
		}
	}
	s.edit(func(service string, b hashmode.Bucket, slot Slot) Slot {
		to, ok := target[service][b]
		if !ok {
			return slot
		}
		after := slot.moved(to, index)
		// The new owner would wait for ever for one that is dead: a bucket
		// stays with a dead node while there is nobody to give it to.
		if s.Nodes[slot.Owner].Failed {
			after = after.without(slot.Owner)
		}
		return after
	})
	return nil
}

// targets checks a move and returns its buckets.
func (s *State) targets(m Move) (hashmode.Set, error) {
	service, err := s.service(m.Service)
	if err != nil {
		return hashmode.Set{}, err
	}
	n, err := s.node(m.To)
	if err != nil {
		return hashmode.Set{}, err
	}
	if n.Witness {
		return hashmode.Set{}, fmt.Errorf("%w: %s cannot be given buckets", ErrWitness, n.Name)
	}
	if !s.Answering(m.Service)[m.To] || !n.Follows() {
		return hashmode.Set{}, fmt.Errorf("%w: %s: %s", ErrNotServing, n.Name, n.why(m.Service))
	}
	return hashmode.ParseSet(m.Buckets, len(service.Map))
}

// why says why a node does not serve.
func (n Node) why(service string) string {
	switch {
	case n.Failed:
		return "it has failed"
	case n.Out:
		return "it is out"
	case !n.Follows():
		return "it is restarting"
	}
	return n.Unfit[service]
}

func (s *State) pin(index uint64, c Pin) (bool, error) {
	service, err := s.service(c.Service)
	if err != nil {
		return false, err
	}
	set, err := hashmode.ParseSet(c.Buckets, len(service.Map))
	if err != nil {
		return false, err
	}
	if c.Node != "" {
		if err := s.move(index, []Move{{Service: c.Service, Buckets: c.Buckets, To: c.Node}}); err != nil {
			return false, err
		}
	}
	s.edit(func(name string, b hashmode.Bucket, slot Slot) Slot {
		if name == c.Service && set.Has(b) {
			slot.Pin = c.Node
		}
		return slot
	})
	return true, nil
}

func (s *State) endDrain(c EndDrain) (bool, error) {
	service, err := s.service(c.Service)
	if err != nil {
		return false, err
	}
	set, err := hashmode.ParseSet(c.Buckets, len(service.Map))
	if err != nil {
		return false, err
	}
	changed := false
	s.edit(func(name string, b hashmode.Bucket, slot Slot) Slot {
		// A slot that has moved since may have given the node flows again.
		if name != c.Service || !set.Has(b) || slot.Since > c.Seen {
			return slot
		}
		after := slot.without(c.Node)
		changed = changed || len(after.From) != len(slot.From)
		return after
	})
	return changed, nil
}

func (s *State) death(index, term uint64, c Death) (bool, error) {
	if c.Term != term {
		return false, fmt.Errorf("death of %s: %w (%d, now %d)", c.Node, ErrTerm, c.Term, term)
	}
	if c.Epoch != s.Epoch {
		return false, fmt.Errorf("death of %s: %w (epoch %d, now %d)", c.Node, ErrStale, c.Epoch, s.Epoch)
	}
	n, err := s.node(c.Node)
	if err != nil {
		return false, err
	}
	n.Failed, n.Changed, n.Rest, n.RestBy = true, index, 0, 0
	n = s.lost(n, "")
	s.Nodes[c.Node] = n
	if err := s.move(index, c.Moves); err != nil {
		return false, err
	}
	s.edit(func(_ string, _ hashmode.Bucket, slot Slot) Slot { return slot.without(c.Node) })
	return true, nil
}

// forget takes a node out of everything. A bucket of its that could go to
// nobody has no owner until the next plan, as before the first one.
func (s *State) forget(index, term uint64, c Forget) (bool, error) {
	if c.Term != term {
		return false, fmt.Errorf("forget %s: %w (%d, now %d)", c.Node, ErrTerm, c.Term, term)
	}
	if c.Epoch != s.Epoch {
		return false, fmt.Errorf("forget %s: %w (epoch %d, now %d)", c.Node, ErrStale, c.Epoch, s.Epoch)
	}
	n, err := s.node(c.Node)
	if err != nil {
		return false, err
	}
	if !n.Failed {
		return false, fmt.Errorf("forget %s: %w", c.Node, ErrAlive)
	}
	if err := s.move(index, c.Moves); err != nil {
		return false, err
	}
	s.edit(func(_ string, _ hashmode.Bucket, slot Slot) Slot {
		slot = slot.without(c.Node)
		if slot.Owner == c.Node {
			slot.Owner, slot.Since = "", index
		}
		if slot.Pin == c.Node {
			slot.Pin = ""
		}
		return slot
	})
	delete(s.Nodes, c.Node)
	return true, nil
}

func (s *State) comeBack(index, term uint64, c Return) (bool, error) {
	if c.Term != term {
		return false, fmt.Errorf("return of %s: %w (%d, now %d)", c.Node, ErrTerm, c.Term, term)
	}
	n, err := s.node(c.Node)
	if err != nil {
		return false, err
	}
	if !n.Failed {
		return false, nil
	}
	n.Failed, n.Changed = false, index
	n = s.onProbation(n)
	s.Nodes[c.Node] = n
	return true, nil
}

func (s *State) rest(c Rest) (bool, error) {
	n, err := s.node(c.Node)
	if err != nil {
		return false, err
	}
	if c.For == 0 && c.By != 0 && c.By != n.RestBy {
		return false, nil // that rest was over already
	}
	old := n
	n.Rest = c.For
	if c.For > 0 {
		n.RestBy = c.By
	}
	if n.equal(old) {
		return false, nil
	}
	s.Nodes[c.Node] = n
	return true, nil
}

func (s *State) fitness(c Fitness) (bool, error) {
	n, err := s.node(c.Node)
	if err != nil {
		return false, err
	}
	if maps.Equal(n.Unfit, c.Unfit) && maps.Equal(n.Spare, c.Spare) {
		return false, nil
	}
	for _, service := range slices.Sorted(maps.Keys(c.Unfit)) {
		if _, before := n.Unfit[service]; !before {
			n = s.lost(n, service)
		}
	}
	n.Unfit, n.Spare = maps.Clone(c.Unfit), maps.Clone(c.Spare)
	s.Nodes[c.Node] = n
	return true, nil
}
