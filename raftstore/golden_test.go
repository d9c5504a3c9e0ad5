package raftstore

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file of a released format, which never changes again.
func golden(t *testing.T, name string, got []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return want
}

// everyCommand has one command of each kind.
func everyCommand() []Command {
	moves := []Move{{Service: "web", Buckets: "0-3", To: "b"}}
	return []Command{
		{Tick: &Tick{}},
		{Join: &Join{Name: "a", ServerID: "id-a", Listen: "192.168.56.11:7440", Weight: 2}},
		{Define: &Define{Definition: web(8), Seed: 305419896}},
		{Wish: &Wish{Node: "a", Out: true, Cut: true}},
		{Assign: &Assign{Epoch: 4, Moves: moves}},
		{Pin: &Pin{Service: "web", Buckets: "7", Node: "b"}},
		{EndDrain: &EndDrain{Node: "a", Service: "web", Buckets: "0-1", Seen: 9}},
		{Death: &Death{Node: "a", Term: 3, Epoch: 5, Moves: moves}},
		{Return: &Return{Node: "a", Term: 3}},
		{Rest: &Rest{Node: "a", For: 3 * time.Second}},
	}
}

func TestGoldenCommands(t *testing.T) {
	for name, commands := range map[string][]Command{"commands-1.jsonl": everyCommand(), "commands-2.jsonl": format2(), "commands-3.jsonl": format3()} {
		var lines []byte
		for _, c := range commands {
			data, err := c.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := DecodeCommand(data); err != nil {
				t.Error(err)
			}
			lines = append(append(lines, data...), '\n')
		}
		want := golden(t, name, lines)
		if string(want) != string(lines) {
			t.Errorf("commands are written\n%s\nnot, as in %s,\n%s", lines, name, want)
		}
	}
}

func TestGoldenSnapshot(t *testing.T) {
	s := three(t)
	s = must(t, s, assign(s, "0-3", "b"))
	s = must(t, s, Command{Pin: &Pin{Service: "web", Buckets: "7", Node: "c"}})
	s = must(t, s, Command{Wish: &Wish{Node: "c", Out: true}})
	s = must(t, s, Command{Rest: &Rest{Node: "b", For: 3 * time.Second}})
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want := golden(t, "snapshot-1.json", data)
	if string(want) != string(data) {
		t.Errorf("a snapshot is written\n%s\nnot, as in version 1,\n%s", data, want)
	}
	got, err := DecodeState(want)
	if err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("a snapshot of version 1 is read as %+v, %v", got, err)
	}
}
