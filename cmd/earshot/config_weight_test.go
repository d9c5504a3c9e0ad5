package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func TestWeightFromAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weight")
	w := weight{File: path}
	for _, c := range []struct {
		text string
		want int // below zero: refused
		says string
	}{
		{"7", 7, ""},
		{"  0\n", 0, ""},
		{"1000\n", 1000, ""},
		{"1001", -1, `"1001" is no weight (0 to 1000)`},
		{"-1", -1, `"-1" is no weight`},
		{"", -1, `"" is no weight`},
		{"many", -1, `"many" is no weight`},
		{strings.Repeat(" ", 100) + "7", -1, "more than 64 bytes"},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := w.read()
		if c.want >= 0 && (err != nil || got != c.want) {
			t.Errorf("%q: %d, %v", c.text, got, err)
		}
		if c.want < 0 && (err == nil || !strings.Contains(err.Error(), c.says) || w.start() != -1) {
			t.Errorf("%q: %d, %v, not an error that says %s", c.text, got, err, c.says)
		}
	}
}

// What is no file with a number ends at once, and is no weight.
func TestWeightFromWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, pipe, filepath.Join(dir, "none")} {
		if got, err := (weight{File: path}).read(); err == nil {
			t.Errorf("%s: %d", path, got)
		}
	}
}

func TestWeightByCores(t *testing.T) {
	clearEnv(t)
	got, err := loadConfig(writeConfig(t, smallConfig+"weight: cores\n"))
	if err != nil || got.Weight.start() != runtime.NumCPU() || got.Weight.source() != nil {
		t.Errorf("%+v, %v", got.Weight, err)
	}
	got, err = loadConfig(writeConfig(t, smallConfig+"weight: file:/run/weight\n"))
	if err != nil || got.Weight != (weight{File: "/run/weight"}) || got.Weight.source() == nil {
		t.Errorf("%+v, %v", got.Weight, err)
	}
}
