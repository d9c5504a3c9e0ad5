package raftstore

import (
	"errors"
	"reflect"
	"testing"

	"earshot/hashmode"
)

// format2 has what format 2 brought.
func format2() []Command {
	return []Command{
		{Join: &Join{Name: "a", ServerID: "id-a", Listen: "192.168.56.11:7440", Weight: 2, Reads: 2}},
		{Join: &Join{Name: "w", ServerID: "id-w", Listen: "192.168.56.12:7440", Weight: 1, Witness: true, Reads: 2}},
		{Forget: &Forget{Node: "b", Term: 3, Epoch: 5, Moves: []Move{{Service: "web", Buckets: "0-3", To: "a"}}}},
	}
}

func TestGoldenSnapshot2(t *testing.T) {
	s := must(t, three(t), format2()[1])
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want := golden(t, "snapshot-2.json", data)
	if string(want) != string(data) {
		t.Errorf("a snapshot is written\n%s\nnot, as in version 2,\n%s", data, want)
	}
	got, err := DecodeState(want)
	if err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("a snapshot of version 2 is read as %+v, %v", got, err)
	}
}

// byNetwork has what format 3 brought.
func byNetwork() Command {
	d := web(8)
	d.Hash, d.Prefix = hashmode.SourceNet, 24
	return Command{Define: &Define{Definition: d, Seed: 7}}
}

func TestGoldenSnapshot3(t *testing.T) {
	s := replay(t, join("a"), byNetwork())
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want := golden(t, "snapshot-3.json", data)
	if string(want) != string(data) {
		t.Errorf("a snapshot is written\n%s\nnot, as in version 3,\n%s", data, want)
	}
	if state, err := DecodeState(want); err != nil || !reflect.DeepEqual(state, s) {
		t.Errorf("a snapshot of version 3 is read as %+v, %v", state, err)
	}
}

// An older member would refuse the definition, and have another state than
// the others from then on.
func TestSourceNetWaitsForOlderMembers(t *testing.T) {
	old := replay(t, join("a"))
	if err := old.readable(byNetwork(), map[string]int{"id-a": 2}); !errors.Is(err, ErrOldMember) {
		t.Errorf("a member that reads format 2: %v", err)
	}
	if err := old.readable(byNetwork(), map[string]int{"id-a": 3}); err != nil {
		t.Errorf("a member that reads format 3: %v", err)
	}
}

func TestNewerFormatsAreRefused(t *testing.T) {
	if _, err := DecodeCommand([]byte(`{"v":5,"sing":{}}`)); !errors.Is(err, ErrVersion) {
		t.Errorf("newer command: %v", err)
	}
	if _, err := DecodeState([]byte(`{"version":5,"state":[]}`)); !errors.Is(err, ErrVersion) {
		t.Errorf("newer snapshot: %v", err)
	}
	for _, text := range []string{``, `{`, `{"v":1,"sing":{}}`, `{"v":2,"sing":{}}`, `[]`} {
		if _, err := DecodeCommand([]byte(text)); !errors.Is(err, ErrCommand) {
			t.Errorf("command %q: %v", text, err)
		}
	}
}
