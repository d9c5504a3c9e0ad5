package raftstore

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

var errSilent = errors.New("silent")

// someone is a hello for tables: its name is its id, and its address follows
// from the number.
func someone(number int, change func(*hello)) hello {
	h := hello{Name: fmt.Sprint("n", number), ServerID: fmt.Sprint("id", number), Listen: at(number)}
	if change != nil {
		change(&h)
	}
	return h
}

func at(number int) string { return fmt.Sprintf("10.0.0.%d:7440", number) }

func to(number int, ballot string) func(*hello) {
	return func(h *hello) {
		h.Promise = promise{ServerID: fmt.Sprint("id", number), Listen: at(number), Ballot: ballot}
	}
}

func TestDecide(t *testing.T) {
	member := func(h *hello) { h.Member = true }
	for _, c := range []struct {
		name   string
		self   hello
		others []hello
		silent []int
		want   act
		nodes  []string
	}{
		{name: "alone it stands", self: someone(1, nil), want: actStand},
		{name: "alone it forms", self: someone(1, to(1, "a")), want: actBootstrap},
		{name: "a member is joined, whatever is promised or silent", self: someone(1, to(1, "a")), others: []hello{someone(2, member)}, silent: []int{3}, want: actJoin, nodes: []string{at(2)}},
		{name: "nobody stands while one is silent", self: someone(1, nil), others: []hello{someone(2, nil)}, silent: []int{3}, want: actWait, nodes: []string{at(3)}},
		{name: "nobody forms while one is silent", self: someone(1, to(1, "a")), others: []hello{someone(2, to(1, "a"))}, silent: []int{3}, want: actWait, nodes: []string{at(3)}},
		{name: "the lowest stands", self: someone(1, nil), others: []hello{someone(2, nil)}, want: actStand},
		{name: "the lowest by number, not by text", self: someone(10, nil), others: []hello{someone(9, nil)}, want: actWait, nodes: []string{at(9)}},
		{name: "the higher waits for a ballot", self: someone(2, nil), others: []hello{someone(1, nil)}, want: actWait, nodes: []string{at(1)}},
		{name: "the higher promises", self: someone(2, nil), others: []hello{someone(1, to(1, "a"))}, want: actPromise},
		{name: "having promised it waits", self: someone(2, to(1, "a")), others: []hello{someone(1, to(1, "a"))}, want: actWait, nodes: []string{at(1)}},
		{name: "the candidate waits for the others' promises", self: someone(1, to(1, "a")), others: []hello{someone(2, nil), someone(3, to(1, "a"))}, want: actWait, nodes: []string{at(2)}},
		{name: "a promise to an old ballot does not count", self: someone(1, to(1, "b")), others: []hello{someone(2, to(1, "a"))}, want: actWait, nodes: []string{at(2)}},
		{name: "with all promises it forms", self: someone(1, to(1, "a")), others: []hello{someone(2, to(1, "a")), someone(3, to(1, "a"))}, want: actBootstrap},
		{name: "promised to a silent node, nobody forms", self: someone(1, to(9, "x")), want: actWait, nodes: []string{at(9)}},
		{name: "promised to another that stands, nobody forms", self: someone(1, to(9, "x")), others: []hello{someone(9, to(9, "x"))}, want: actWait, nodes: []string{at(9)}},
		{name: "promised to one that drew another ballot, it is free", self: someone(1, to(9, "x")), others: []hello{someone(9, to(9, "y"))}, want: actStand},
		{name: "promised to one that follows another, it is free", self: someone(2, to(3, "x")), others: []hello{someone(1, to(1, "a")), someone(3, to(1, "a"))}, want: actPromise},
		{name: "promised to a wiped disk, it is free", self: someone(2, to(1, "x")), others: []hello{someone(1, func(h *hello) { h.ServerID = "new" })}, want: actWait, nodes: []string{at(1)}},
		{name: "a candidate that is no longer the lowest follows", self: someone(2, to(2, "x")), others: []hello{someone(1, to(1, "a"))}, want: actPromise},
		{name: "itself under another address is nobody else", self: someone(1, to(1, "a")), others: []hello{someone(5, func(h *hello) { h.ServerID = "id1"; h.Listen = at(1) })}, want: actBootstrap},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := view{self: c.self, seen: map[string]hello{}, silent: map[string]error{}}
			for _, h := range c.others {
				v.seen[h.Listen] = h
			}
			for _, n := range c.silent {
				v.silent[at(n)] = errSilent
			}
			got := decide(v)
			if got.act != c.want || !slices.Equal(got.nodes, c.nodes) {
				t.Errorf("decide = %d about %v (%s), want %d about %v", got.act, got.nodes, got.why, c.want, c.nodes)
			}
		})
	}
}

// world is a set of nodes that form clusters by decide. Everything that a node
// sees is seen one answer at a time, with anything else in between.
type world struct {
	nodes []*dweller
	next  int // for ids and ballots
}

type dweller struct {
	number  int
	self    hello // what is on disk, and the list
	up      bool
	cluster int // the ballot's number of the cluster it belongs to, 0 for none
	looking *view
}

func (w *world) fresh(kind string) string {
	w.next++
	return fmt.Sprint(kind, w.next)
}

// move lets one node do one thing: begin to look, ask one more address, or act.
func (w *world) move(n *dweller) {
	if !n.up || n.self.Member {
		return
	}
	if n.looking == nil {
		n.looking = &view{self: n.self, seen: map[string]hello{}, silent: map[string]error{}}
	}
	if todo := n.looking.unasked(); len(todo) > 0 {
		w.ask(n, todo[w.next%len(todo)])
		w.next++
		return
	}
	next := decide(*n.looking)
	n.looking = nil
	switch next.act {
	case actStand:
		n.self.Promise = promise{ServerID: n.self.ServerID, Listen: n.self.Listen, Ballot: w.fresh("ballot")}
	case actPromise:
		n.self.Promise = next.promise
	case actBootstrap:
		w.next++
		n.self.Member, n.cluster = true, w.next
	case actJoin:
		for _, m := range w.nodes {
			if m.up && m.self.Member && slices.Contains(next.nodes, m.self.Listen) {
				n.self.Member, n.cluster = true, m.cluster
				return
			}
		}
	}
}

func (w *world) ask(n *dweller, address string) {
	for _, m := range w.nodes {
		if m.up && m.self.Listen == address {
			n.looking.seen[address] = m.self
			return
		}
	}
	n.looking.silent[address] = errSilent
}

func (w *world) clusters() []int {
	var all []int
	for _, n := range w.nodes {
		if n.cluster != 0 {
			all = append(all, n.cluster)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// newWorld makes nodes whose lists all hold the first one of them, the hub, and
// others at random.
func newWorld(t *rapid.T) *world {
	w := &world{next: 1}
	numbers := rapid.Permutation([]int{1, 2, 3, 4, 5}).Draw(t, "numbers")
	for _, number := range numbers[:rapid.IntRange(1, 5).Draw(t, "nodes")] {
		w.nodes = append(w.nodes, &dweller{number: number, self: someone(number, nil)})
	}
	for _, n := range w.nodes {
		w.relist(t, n)
	}
	return w
}

// relist draws a new list for a node.
func (w *world) relist(t *rapid.T, n *dweller) {
	n.self.Peers = []string{w.nodes[0].self.Listen}
	for _, m := range w.nodes {
		if rapid.Bool().Draw(t, "lists") {
			n.self.Peers = append(n.self.Peers, m.self.Listen)
		}
	}
}

// Never two: whatever the order of starts, crashes, wiped disks, edited lists
// and answers, nodes whose lists lead to a common one form at most one
// cluster; and left alone, exactly one. (The common one keeps its disk: a node
// that forgets both its promise and, in its list, the others, is on its own.)
func TestFormingNeverMakesTwoClusters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for range rapid.IntRange(0, 300).Draw(t, "steps") {
			n := w.nodes[rapid.IntRange(0, len(w.nodes)-1).Draw(t, "node")]
			switch what := rapid.IntRange(0, 29).Draw(t, "what"); {
			case what == 0: // a crash: what is on disk stays
				n.up, n.looking = false, nil
			case what <= 2:
				n.up = true
			case what == 3 && !n.up && n.cluster == 0 && n != w.nodes[0]: // its disk is wiped
				n.self.ServerID, n.self.Promise = w.fresh("disk"), promise{}
			case what == 4 && n.cluster == 0: // a restart with another list
				n.up, n.looking = true, nil
				w.relist(t, n)
			default:
				w.move(n)
			}
			if c := w.clusters(); len(c) > 1 {
				t.Fatalf("%d clusters", len(c))
			}
		}
		for range 200 {
			for _, n := range w.nodes {
				n.up = true
				w.move(n)
			}
		}
		for _, n := range w.nodes {
			if n.cluster == 0 || len(w.clusters()) != 1 {
				t.Fatalf("n%d belongs to %d of clusters %v: %+v", n.number, n.cluster, w.clusters(), n.self)
			}
		}
	})
}

// schedule drives a world by hand.
type schedule struct {
	*world
	t *testing.T
}

func newSchedule(t *testing.T, lists map[int][]int) *schedule {
	s := &schedule{world: &world{next: 1}, t: t}
	for number, list := range lists {
		n := &dweller{number: number, up: true, self: someone(number, nil)}
		s.nodes = append(s.nodes, n)
		s.restart(number, list...)
	}
	return s
}

func (s *schedule) node(number int) *dweller {
	return s.nodes[slices.IndexFunc(s.nodes, func(n *dweller) bool { return n.number == number })]
}

// restart starts a node again with another list.
func (s *schedule) restart(number int, list ...int) {
	n := s.node(number)
	n.looking, n.self.Peers = nil, nil
	for _, m := range list {
		n.self.Peers = append(n.self.Peers, at(m))
	}
}

// look has nodes ask everybody, and stop before they act on it.
func (s *schedule) look(numbers ...int) {
	for _, number := range numbers {
		n := s.node(number)
		for !n.self.Member && (n.looking == nil || len(n.looking.unasked()) > 0) {
			s.move(n)
		}
	}
}

// act has nodes act on what they last looked at, which may be long ago.
func (s *schedule) act(numbers ...int) {
	for _, number := range numbers {
		s.look(number)
		s.move(s.node(number))
	}
	if c := s.clusters(); len(c) > 1 {
		s.t.Fatalf("%d clusters", len(c))
	}
}

// Node 3 has seen the promise of 5 and is slow to act on it. Meanwhile 5 is
// restarted with a list that has it follow 2. If it did, there would be two.
func TestFormingKeepsPromises(t *testing.T) {
	s := newSchedule(t, map[int][]int{2: {5}, 3: {5}, 5: {3}})
	s.act(3, 5)
	s.look(3)
	s.restart(5, 2)
	s.act(2, 5, 2, 5, 2, 5, 2)
	s.act(3)
	s.act(2, 5)
	if c := s.clusters(); len(c) != 1 {
		t.Errorf("%d clusters", len(c))
	}
}
