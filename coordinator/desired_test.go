package coordinator

import (
	"reflect"
	"testing"

	"earshot/hashmode"
	"earshot/raftstore"
)

func TestRoleOfASlot(t *testing.T) {
	for name, tc := range map[string]struct {
		slot raftstore.Slot
		know levels
		want map[string]role
	}{
		"nobody yet":                    {raftstore.Slot{}, nil, map[string]role{"a": foreign}},
		"settled":                       {raftstore.Slot{Owner: "a", Since: 5}, nil, map[string]role{"a": own, "b": foreign}},
		"not released":                  {raftstore.Slot{Owner: "a", Since: 5, From: []string{"b"}}, released("b", 4), map[string]role{"a": waiting, "b": drain}},
		"release unheard of":            {raftstore.Slot{Owner: "a", Since: 5, From: []string{"b"}}, nil, map[string]role{"a": waiting}},
		"released":                      {raftstore.Slot{Owner: "a", Since: 5, From: []string{"b"}}, released("b", 5), map[string]role{"a": inherit, "b": drain}},
		"one of two released (P12)":     {raftstore.Slot{Owner: "a", Since: 5, From: []string{"b", "c"}}, released("b", 9), map[string]role{"a": waiting, "c": drain}},
		"release of the move before":    {raftstore.Slot{Owner: "a", Since: 9, From: []string{"b", "c"}}, released("b", 5, "c", 9), map[string]role{"a": waiting}},
		"both released, one long since": {raftstore.Slot{Owner: "a", Since: 9, From: []string{"b", "c"}}, released("b", 12, "c", 9), map[string]role{"a": inherit}},
	} {
		for node, want := range tc.want {
			if got := roleOf(tc.slot, node, tc.know); got != want {
				t.Errorf("%s: %s is %d to it, want %d", name, node, got, want)
			}
		}
	}
}

// TestRolesOfAllNodes: one pass over the map for all nodes finds what one pass
// for each does.
func TestRolesOfAllNodes(t *testing.T) {
	know := released("a", 3, "c", 7)
	nodes := []string{"", "a", "b", "c"}
	var m raftstore.Map
	for i := range 400 {
		slot := raftstore.Slot{Owner: nodes[i%4], Since: uint64(i % 9)}
		for bit, former := range nodes[1:] {
			if i/36&(1<<bit) != 0 {
				slot.From = append(slot.From, former)
			}
		}
		m = append(m, slot)
	}
	all := rolesOfAll(m, know)
	for _, node := range append(nodes, "stranger") {
		if one := rolesOf(m, node, know); len(one) != len(all[node]) || len(one) > 0 && !reflect.DeepEqual(one, all[node]) {
			t.Errorf("%q: %v in the pass for all, %v in its own", node, all[node], one)
		}
	}
}

// TestAFormerOwnerAnswersUntilItsHeirIsThere: until the new owner holds the map
// the former one goes on, and then it stops. If that one never comes, nothing
// is lost.
func TestAFormerOwnerAnswersUntilItsHeirIsThere(t *testing.T) {
	h := newHistory(t)
	for _, n := range []string{"a", "b", "c"} {
		h.join(n, 1)
	}
	h.define("web", 4)
	h.pin("0-3", "a")
	a := opened{held: h.state.Index, buckets: map[string]hashmode.Set{"web": hashmode.NewSet(0, 1, 2, 3)}, answered: true}
	h.pin("0", "b")
	moved := h.state.Index
	for name, tc := range map[string]struct {
		know                levels
		opened              opened
		own, inherit, drain string
		released            uint64
	}{
		"b does not know":              {nil, a, "1-3", "0", "", moved - 1},
		"b holds an older map":         {levels{"b": {Held: moved - 1}}, a, "1-3", "0", "", moved - 1},
		"b is there":                   {levels{"b": {Held: moved}}, a, "1-3", "", "0", moved},
		"the kernel let through less":  {nil, opened{held: moved - 1, buckets: map[string]hashmode.Set{"web": hashmode.NewSet(1, 2)}, answered: true}, "1-3", "", "0", moved},
		"in an earlier life it did so": {nil, opened{held: h.state.Nodes["a"].Changed - 1, buckets: a.buckets, answered: true}, "1-3", "", "0", moved},
		"it replays its log":           {nil, opened{held: a.held, buckets: a.buckets}, "1-3", "", "0", moved},
	} {
		rs := desired(h.state, "a", knowledge{levels: tc.know, opened: tc.opened})
		s := rs.Services[0]
		if s.Own.String() != tc.own || s.Inherit.String() != tc.inherit || s.Drain.String() != tc.drain {
			t.Errorf("%s: own %q, inherit %q, drain %q", name, s.Own, s.Inherit, s.Drain)
		}
		if got := releasedUnder(h.state, "a", openedBy(rs)); got != tc.released {
			t.Errorf("%s: released map %d, want %d", name, got, tc.released)
		}
	}
	h.pin("0", "c") // b never took it
	if s := desired(h.state, "a", knowledge{opened: a}).Services[0]; s.Own.String() != "1-3" || s.Inherit.String() != "0" {
		t.Errorf("given on before b came: own %q, inherit %q", s.Own, s.Inherit)
	}
}

// TestWhatCannotBeToldIsNotClosed: one level tells of all buckets, so a release
// cannot be told while a bucket of the same move, or of one before it, waits for
// another heir. Closed all the same, its new clients would wait for that one: for
// its death, at the worst.
func TestWhatCannotBeToldIsNotClosed(t *testing.T) {
	h := newHistory(t)
	for _, n := range []string{"a", "b", "c"} {
		h.join(n, 1)
	}
	h.define("web", 4)
	h.define("mail", 2)
	h.pin("0-3", "a")
	h.must(raftstore.Command{Pin: &raftstore.Pin{Service: "mail", Buckets: "0-1", Node: "a"}})
	a := opened{
		held: h.state.Index, answered: true,
		buckets: map[string]hashmode.Set{"web": hashmode.NewSet(0, 1, 2, 3), "mail": hashmode.NewSet(0, 1)},
	}
	h.pin("0", "b")
	first := h.state.Index
	h.pin("1", "c")
	second := h.state.Index
	h.must(raftstore.Command{Pin: &raftstore.Pin{Service: "mail", Buckets: "0", Node: "b"}})
	third := h.state.Index
	busy := map[string]hashmode.Set{"mail": hashmode.NewSet(0)}
	for name, tc := range map[string]struct {
		know          levels
		busy          map[string]hashmode.Set
		drain, ofMail string
		released      uint64
	}{
		"nobody is there":               {released: first - 1},
		"the first is there":            {know: levels{"b": {Held: first}}, drain: "0", released: second - 1},
		"the last is there":             {know: levels{"c": {Held: third}}, released: first - 1},
		"the second is not there":       {know: levels{"b": {Held: third}}, drain: "0", released: second - 1},
		"the second is there":           {know: levels{"b": {Held: first}, "c": {Held: second}}, drain: "0-1", released: third - 1},
		"all are there":                 {know: levels{"b": {Held: third}, "c": {Held: third}}, drain: "0-1", ofMail: "0", released: third},
		"packets wait in the last":      {know: levels{"b": {Held: third}, "c": {Held: third}}, busy: busy, drain: "0-1", released: third - 1},
		"packets wait in an older move": {know: levels{"b": {Held: third}, "c": {Held: third}}, busy: map[string]hashmode.Set{"web": hashmode.NewSet(0)}, released: first - 1},
	} {
		rs := desired(h.state, "a", knowledge{levels: tc.know, opened: a, busy: tc.busy})
		drains := map[string]string{}
		for _, s := range rs.Services {
			drains[s.Name] = s.Drain.String()
		}
		if drains["web"] != tc.drain || drains["mail"] != tc.ofMail {
			t.Errorf("%s: drains %q of web and %q of mail, want %q and %q", name, drains["web"], drains["mail"], tc.drain, tc.ofMail)
		}
		if got := releasedUnder(h.state, "a", openedBy(rs)); got != tc.released {
			t.Errorf("%s: released map %d, want %d", name, got, tc.released)
		}
	}
}

// TestADeadNodeOpensNothing: a node that was judged dead with nobody to give
// its buckets to still has them by the map. Heard again it is granted a lease,
// and others are given the buckets without waiting for it (P14).
func TestADeadNodeOpensNothing(t *testing.T) {
	h := newHistory(t)
	h.join("a", 1)
	h.define("web", 4)
	h.replan()
	h.die("a")
	if s := desired(h.state, "a", knowledge{}).Services[0]; !s.Own.Union(s.Inherit).Union(s.Drain).Empty() {
		t.Fatalf("a dead node opens %s, inherits %s, drains %s", s.Own, s.Inherit, s.Drain)
	}
	h.must(raftstore.Command{Return: &raftstore.Return{Node: "a", Term: testTerm}})
	if s := desired(h.state, "a", knowledge{}).Services[0]; s.Own.String() != "0-3" {
		t.Fatalf("back, it opens %q", s.Own)
	}
}

// TestRestartKeepsWhatTheKernelHasTaken: a new process knows of no release, but
// the one before it did when it took the bucket (P13).
func TestRestartKeepsWhatTheKernelHasTaken(t *testing.T) {
	h := newHistory(t)
	h.join("a", 1)
	h.join("b", 1)
	h.define("web", 3)
	h.must(raftstore.Command{Pin: &raftstore.Pin{Service: "web", Buckets: "0-2", Node: "a"}})
	h.must(raftstore.Command{Pin: &raftstore.Pin{Service: "web", Buckets: "0-1", Node: "b"}})
	before := opened{held: h.state.Index, buckets: map[string]hashmode.Set{"web": hashmode.NewSet(0, 1)}}
	if got := desired(h.state, "b", knowledge{opened: before}).Services[0].Inherit.String(); got != "0-1" {
		t.Fatalf("b keeps %q of buckets 0-1, which it had taken", got)
	}
	h.must(raftstore.Command{Pin: &raftstore.Pin{Service: "web", Buckets: "1", Node: "a"}})
	h.must(raftstore.Command{Pin: &raftstore.Pin{Service: "web", Buckets: "1", Node: "b"}})
	if got := desired(h.state, "b", knowledge{opened: before}).Services[0].Inherit.String(); got != "0" {
		t.Fatalf("b keeps %q, though bucket 1 was a's in between", got)
	}
}

// released is the news that nodes have released all up to a map: name, map, ….
func released(said ...any) levels {
	l := levels{}
	for i := 0; i < len(said); i += 2 {
		index := uint64(said[i+1].(int))
		l[said[i].(string)] = level{Held: index, Released: index}
	}
	return l
}

// A service that nobody can serve is refused by whoever answers for its
// buckets, if that is its wish; the rules for that stand ready before.
func TestAServiceThatNobodyCanServeIsRefused(t *testing.T) {
	h := newHistory(t)
	for _, n := range []string{"a", "b"} {
		h.join(n, 1)
	}
	h.define("web", 4)
	h.replan()
	ill := func(node string) {
		h.must(raftstore.Command{Fitness: &raftstore.Fitness{
			Node: node, Unfit: map[string]string{"web": "refused"}, Spare: map[string]bool{"web": false},
		}})
	}
	check := func(when string, stands, refuses bool) {
		t.Helper()
		all := hashmode.Set{}
		for _, node := range []string{"a", "b"} {
			s := desired(h.state, node, knowledge{}).Services[0]
			if s.MayRefuse != stands || s.Refuse != refuses {
				t.Errorf("%s, %s: stands %v, refuses %v", when, node, s.MayRefuse, s.Refuse)
			}
			all = all.Union(s.Own)
		}
		if got := serviceStatus(h.state, "web", nil, nil).Refuses; got != refuses || all.Len() != 4 {
			t.Errorf("%s: the status says refused: %v; %v have an owner", when, got, all)
		}
	}
	ill("a")
	ill("b")
	check("it is to be kept", false, false)
	h.refuse("web")
	check("nobody serves it", true, true)
	h.must(raftstore.Command{Fitness: &raftstore.Fitness{Node: "b"}})
	check("b serves it", true, false)
}

// refuse has a service be refused while nobody can serve it.
func (h *history) refuse(service string) {
	was := h.state.Services[service].Definition
	now := was
	now.Fallback = raftstore.FallbackRefuse
	h.must(raftstore.Command{Redefine: &raftstore.Redefine{Changes: []raftstore.Redefinition{
		{Service: service, Was: &was, Definition: &now},
	}}})
}
