package main

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
)

// updating says that golden files are to be written, not read.
func updating() bool { return flag.Lookup("update").Value.String() == "true" }

func defineFlags() { flag.Bool("update", false, "write the golden files") }

// golden holds a text against the file of that name below testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if updating() {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test ./cmd/earshot -update writes it):\n--- got\n%s--- want\n%s", file, got, want)
	}
}
