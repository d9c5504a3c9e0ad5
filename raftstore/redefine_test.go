package raftstore

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"earshot/hashmode"
)

// redefine is the change of web from what the state has.
func redefine(s *State, edit func(*Definition)) Command {
	was := s.Services["web"].Definition
	is := was
	edit(&is)
	return Command{Redefine: &Redefine{Changes: []Redefinition{{Service: "web", Was: &was, Definition: &is}}}}
}

func remove(s *State, name string) Command {
	was := s.Services[name].Definition
	return Command{Redefine: &Redefine{Changes: []Redefinition{{Service: name, Was: &was}}}}
}

// add is a new service beside web, at the same address.
func add(name string, ports ...string) Redefinition {
	d := web(4)
	d.Name, d.Ports = name, ports
	return Redefinition{Service: name, Definition: &d, Seed: 9}
}

// spread is a state in which a, b and c own web's 9 buckets, three each, and c
// has flows in the first one.
func spread(t *testing.T) *State {
	s := replay(t, join("a"), join("b"), join("c"), join("idle"), Command{Define: &Define{Definition: web(9), Seed: 7}})
	for _, m := range [][2]string{{"0", "c"}, {"0-2", "a"}, {"3-5", "b"}, {"6-8", "c"}} {
		s = must(t, s, assign(s, m[0], m[1]))
	}
	return must(t, s, Command{Pin: &Pin{Service: "web", Buckets: "8", Node: "c"}})
}

// text writes a map as owner<from,from for each bucket.
func (m Map) text() string {
	var all []string
	for _, slot := range m {
		text := slot.Owner
		if len(slot.From) > 0 {
			text += "<" + strings.Join(slot.From, "")
		}
		if slot.Pin != "" {
			text += "!"
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

func TestRedefine(t *testing.T) {
	const asBefore = "a<c a a b b b c c c!"
	const everywhere = "a<bc a<bc a<bc b<ac b<ac b<ac c<ab c<ab c<ab"
	tests := []struct {
		name string
		edit func(*Definition)
		want string
	}{
		{"drain", func(d *Definition) { d.Drain *= 2 }, asBefore},
		{"a port more, which the address decided alike", func(d *Definition) { d.Ports = append(d.Ports, "udp/53") }, asBefore},
		{"a port less, which the address decides alike", func(d *Definition) { d.Ports = d.Ports[1:] }, asBefore},
		{"every port", func(d *Definition) { d.Ports = nil }, asBefore},
		{"another hash", func(d *Definition) { d.Hash = hashmode.SourceIPSourcePort }, everywhere},
		{"fewer buckets", func(d *Definition) { d.Buckets = 3 }, "a<bc b<ac c<ab"},
		{"more buckets", func(d *Definition) { d.Buckets = 10 },
			"a<bc a<bc a<bc a<bc b<ac b<ac b<ac c<ab c<ab c<ab"},
		{"one bucket", func(d *Definition) { d.Buckets = 1 }, "a<bc"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := spread(t)
			after := must(t, before, redefine(before, tt.edit))
			got := after.Services["web"]
			if got.Map.text() != tt.want {
				t.Errorf("got  %s\nwant %s", got.Map.text(), tt.want)
			}
			for b, slot := range got.Map {
				if tt.want != asBefore && slot.Since != after.Index {
					t.Errorf("bucket %d is as old as %d, now %d", b, slot.Since, after.Index)
				}
			}
			if got.Seed != before.Services["web"].Seed || after.Epoch != before.Epoch+1 {
				t.Errorf("seed %d, epoch %d after %d", got.Seed, after.Epoch, before.Epoch)
			}
			if text := before.Services["web"].Map.text(); text != asBefore {
				t.Errorf("the state before is now %s", text)
			}
			data, err := after.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if back, err := DecodeState(data); err != nil || !reflect.DeepEqual(back, after) {
				t.Errorf("read back as %+v, %v", back, err)
			}
		})
	}
}

// A port's packets that came by the source address alone come by the service's
// hash now, or the other way round: every flow of theirs is in another bucket.
func TestRedefineOfPortsMovesWhatWasDecidedOtherwise(t *testing.T) {
	s := spread(t)
	s = must(t, s, redefine(s, func(d *Definition) { d.Hash = hashmode.SourceIPSourcePort }))
	s = must(t, s, assign(s, "0", "b")) // so that it shows whether the map is made anew
	for name, edit := range map[string]func(*Definition){
		"more": func(d *Definition) { d.Ports = append(d.Ports, "udp/53") },
		"less": func(d *Definition) { d.Ports = d.Ports[1:] },
	} {
		after := must(t, s, redefine(s, edit))
		for b, slot := range after.Services["web"].Map {
			if slot.Since != after.Index || len(slot.From) != 2 {
				t.Errorf("%s: bucket %d: %+v", name, b, slot)
			}
		}
	}
}

func TestRedefineOfServicesThatShareAnAddress(t *testing.T) {
	s := spread(t)
	// A new service takes what web decided: all that have flows of web may have
	// flows of it. Web decides about no new packet.
	s = must(t, s, Command{Redefine: &Redefine{Changes: []Redefinition{add("xmpp", "tcp/5222")}}})
	if got := s.Services["xmpp"].Map.text(); got != "<abc <abc <abc <abc" {
		t.Errorf("the new service: %s", got)
	}
	if got := s.Services["web"].Map.text(); got != "a<c a a b b b c c c!" {
		t.Errorf("web: %s", got)
	}
	// One whose name comes before decides about strays: web's do not.
	t1 := must(t, s, Command{Redefine: &Redefine{Changes: []Redefinition{add("dns", "udp/53")}}})
	if got := t1.Services["dns"].Map[0]; !slices.Equal(got.From, []string{"a", "b", "c"}) {
		t.Errorf("the first service: %+v", got)
	}
	// The removal of one gives its packets to the first.
	t2 := must(t, s, remove(s, "xmpp"))
	if got := t2.Services["web"].Map.text(); got != "a<bc a<bc a<bc b<ac b<ac b<ac c<ab c<ab c<ab!" {
		t.Errorf("web after the removal: %s", got)
	}
	if got, err := s.Shaken(*remove(s, "xmpp").Redefine); err != nil || !slices.Equal(got, []string{"web"}) {
		t.Errorf("told as moving: %q, %v", got, err)
	}
	// A removal and a new service of the same ports, in one step.
	both := Command{Redefine: &Redefine{Changes: append(remove(s, "xmpp").Redefine.Changes, add("jabber", "tcp/5222"))}}
	t3 := must(t, s, both)
	if _, there := t3.Services["xmpp"]; there || t3.Services["jabber"].Map.text() != "<abc <abc <abc <abc" {
		t.Errorf("services: %v, %s", t3.ServiceNames(), t3.Services["jabber"].Map.text())
	}
}

func TestRedefineIsRefused(t *testing.T) {
	s := spread(t)
	resting := must(t, s, Command{Rest: &Rest{Node: "b", For: 1e9}})
	later := must(t, s, redefine(s, func(d *Definition) { d.Drain++ }))
	clash := func(d *Definition) { d.Hash = hashmode.SourceIPSourcePort }
	tests := []struct {
		name  string
		state *State
		c     Command
		want  error
	}{
		{"address", s, redefine(s, func(d *Definition) { d.Address = netip.MustParsePrefix("192.168.56.30/24") }), ErrFixed},
		{"mac", s, redefine(s, func(d *Definition) { d.MAC = "01:00:5e:00:00:99" }), ErrFixed},
		{"mac_mode", s, redefine(s, func(d *Definition) { d.MACMode = "stealth" }), ErrFixed},
		{"no bucket", s, redefine(s, func(d *Definition) { d.Buckets = 0 }), ErrDefinition},
		{"made from something else", later, redefine(s, func(d *Definition) { d.Drain = 1 }), ErrRedefined},
		{"new and known", s, Command{Redefine: &Redefine{Changes: []Redefinition{add("web", "tcp/1")}}}, ErrRedefined},
		{"gone", must(t, s, remove(s, "web")), redefine(s, func(d *Definition) { d.Drain = 1 }), ErrRedefined},
		{"overlap", s, Command{Redefine: &Redefine{Changes: []Redefinition{add("two", "tcp/80")}}}, ErrDefinition},
		{"no seed", s, Command{Redefine: &Redefine{Changes: []Redefinition{{Service: "x", Definition: add("x", "tcp/1").Definition}}}}, ErrDefinition},
		{"another name", s, Command{Redefine: &Redefine{Changes: []Redefinition{{Service: "y", Definition: add("x", "tcp/1").Definition, Seed: 1}}}}, ErrCommand},
		{"nothing", s, Command{Redefine: &Redefine{}}, ErrCommand},
		{"from nothing to nothing", s, Command{Redefine: &Redefine{Changes: []Redefinition{{Service: "web"}}}}, ErrCommand},
		{"a former owner that restarts", resting, redefine(resting, clash), ErrRestarting},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			after, err := tt.state.Apply(tt.state.Index+1, 1, tt.c)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			want := *tt.state
			want.Index++
			if !reflect.DeepEqual(after, &want) {
				t.Error("refused, and changed all the same")
			}
		})
	}
	// Nothing has to be taken in for these: a restart does not matter.
	must(t, resting, redefine(resting, func(d *Definition) { d.Drain++ }))
	must(t, resting, remove(resting, "web"))
}

// The dead hold nothing that could be waited for.
func TestRedefineDoesNotWaitForTheDead(t *testing.T) {
	s := spread(t)
	s = must(t, s, Command{Death: &Death{Node: "b", Term: 1, Epoch: s.Epoch}}) // and nobody gets its buckets
	s = must(t, s, redefine(s, func(d *Definition) { d.Hash = hashmode.SourceIPSourcePort }))
	if got := s.Services["web"].Map.text(); got != "a<c a<c a<c b<ac b<ac b<ac c<a c<a c<a" {
		t.Errorf("got %s", got)
	}
}

// Whoever has a removed service in the config still does not bring it back.
func TestRemovedServiceStaysAway(t *testing.T) {
	s := spread(t)
	s = must(t, s, remove(s, "web"))
	again := Command{Define: &Define{Definition: web(9), Seed: 7}}
	if _, err := s.Apply(s.Index+1, 1, again); !errors.Is(err, ErrRemoved) {
		t.Fatalf("defined again: %v", err)
	}
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if s, err = DecodeState(data); err != nil || !s.Removed["web"] {
		t.Fatalf("forgotten in a snapshot: %v, %v", s, err)
	}
	s = must(t, s, Command{Redefine: &Redefine{Changes: []Redefinition{add("web", "tcp/1")}}})
	if s.Removed["web"] || len(s.Services["web"].Map) != 4 {
		t.Errorf("not brought back on purpose: %+v", s)
	}
}

// A report on drains from before means other buckets.
func TestEndOfADrainFromBeforeARedefinitionIsVoid(t *testing.T) {
	s := spread(t)
	seen := s.Index
	s = must(t, s, redefine(s, func(d *Definition) { d.Buckets = 18 }))
	s = must(t, s, Command{EndDrain: &EndDrain{Node: "c", Service: "web", Buckets: "0", Seen: seen}})
	if from := s.Services["web"].Map[0].From; !slices.Equal(from, []string{"b", "c"}) {
		t.Errorf("bucket 0 is from %q", from)
	}
}

// TestGoldenRedefine holds the format of what format 3 brought.
func TestGoldenRedefine(t *testing.T) {
	s := spread(t)
	var lines []byte
	for _, c := range []Command{
		redefine(s, func(d *Definition) { d.Buckets = 18 }), remove(s, "web"),
		{Redefine: &Redefine{Changes: []Redefinition{add("dns", "udp/53")}}},
	} {
		data, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := DecodeCommand(data); err != nil || got.Version != 3 {
			t.Errorf("format %d, %v", got.Version, err)
		}
		lines = append(append(lines, data...), '\n')
	}
	if want := golden(t, "redefine-3.jsonl", lines); string(want) != string(lines) {
		t.Errorf("commands are written\n%s\nnot\n%s", lines, want)
	}
	s = must(t, s, remove(s, "web"))
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if want := golden(t, "removed-3.json", data); string(want) != string(data) {
		t.Errorf("a snapshot is written\n%s\nnot\n%s", data, want)
	}
}

// A field that Fields leaves out could be changed by nobody, and would be missed
// by nobody.
func TestFieldsAreComplete(t *testing.T) {
	const apart = 2 // the name, and the interface, in which nodes may differ
	if got, want := len(Definition{}.Fields()), reflect.TypeFor[Definition]().NumField()-apart; got != want {
		t.Errorf("%d fields are listed of %d", got, want)
	}
}
