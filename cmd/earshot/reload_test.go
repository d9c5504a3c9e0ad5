package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"earshot/coordinator/child"
	"earshot/coordinator/health"
)

// Values tells what has changed: every key that has a value, wherever it came
// from.
func TestValues(t *testing.T) {
	clearEnv(t)
	t.Setenv("EARSHOT_SERVICES_WEB_BUCKETS", "16")
	cfg, err := loadConfig(writeConfig(t, smallConfig+"lease: 1s\nwatch_config: true\n"))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"lease": "1s", "restart_lease": "10s", "watch_config": "true", "services.web.buckets": "16", "services.web.hash": "sourceip",
	} {
		if got := cfg.Values[key]; got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	if !cfg.WatchConfig {
		t.Error("watch_config: true is read as false")
	}
	t.Setenv("EARSHOT_WATCH_CONFIG", "perhaps")
	if _, err := loadConfig(cfg.File); err == nil || !strings.Contains(err.Error(), `watch_config: "perhaps" is neither true nor false`) {
		t.Errorf("got %v", err)
	}
}

// A change is told once it is whole, however the file is written; a file that
// is the same again is no change.
func TestWatchConfig(t *testing.T) {
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, file string) {
		t.Helper()
		if err := os.Symlink(to, file); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	for _, d := range []string{"v1", "v2"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
		write(filepath.Join(dir, d, "earshot.yaml"), d)
	}
	link("v1", filepath.Join(dir, "now"))
	file := filepath.Join(dir, "earshot.yaml")
	link(filepath.Join("now", "earshot.yaml"), file)

	told := make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- watchConfig(ctx, file, slog.New(slog.DiscardHandler), func() {
			data, _ := os.ReadFile(file)
			told <- string(data)
		})
	}()
	want := func(text string) {
		t.Helper()
		select {
		case got := <-told:
			if got != text {
				t.Fatalf("told of %q, want %q", got, text)
			}
		case err := <-ended:
			t.Fatal(err)
		case <-time.After(30 * time.Second):
			t.Fatalf("%q is not told", text)
		}
	}
	// Until it watches, what is written is not told: it is written again.
	tries := 0
	for begun := false; !begun; {
		tries++
		write(file, strings.Repeat("x", tries))
		select {
		case <-told:
			begun = true
		case <-time.After(2 * watchQuiet):
		}
	}
	write(file, "in place")
	want("in place")
	write(file+".new", "by an editor")
	rename(file+".new", file)
	want("by an editor")
	write(file+".other", "another file")
	write(file, "by an editor") // the same again
	write(file, "once more")
	want("once more")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	link(filepath.Join("now", "earshot.yaml"), file)
	want("in place") // v1, which was written through the link
	link("v2", filepath.Join(dir, "next"))
	rename(filepath.Join(dir, "next"), filepath.Join(dir, "now"))
	want("v2")
	write(filepath.Join(dir, "v2", "earshot.yaml"), "behind two links")
	want("behind two links")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(told) > 0 {
		t.Errorf("told of %q as well", <-told)
	}
}

// Checks change while they run; those of other services go on.
func TestCheckerFollowsTheConfig(t *testing.T) {
	clearEnv(t)
	there := filepath.Join(t.TempDir(), "there")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	read := func(check string) config {
		t.Helper()
		cfg, err := loadConfig(writeConfig(t, strings.Replace(smallConfig, "eth1}", "eth1"+check+"}", 1)))
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	with := func(file string) config { return read(", check: {file: " + file + ", interval: 50ms}") }
	first := with(there)
	logger := slog.New(slog.DiscardHandler)
	c, err := newChecker(first.Checks, &child.Runner{}, logger)
	if err != nil {
		t.Fatal(err)
	}
	changed := make(chan struct{}, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.monitor.Run(ctx, func() { changed <- struct{}{} }) }()
	becomes := func(want health.State, known bool) {
		t.Helper()
		for {
			v, has := c.monitor.Verdicts()["web"]
			if v.State == want && has == known {
				return
			}
			select {
			case <-changed:
			case <-time.After(30 * time.Second):
				t.Fatalf("the verdict stays %v, %v", v, has)
			}
		}
	}
	becomes(health.Well, true)
	missing := with(there + "-not")
	if first.Values["services.web.check"] == missing.Values["services.web.check"] {
		t.Errorf("another check has the value %q, too", first.Values["services.web.check"])
	}
	c.set(missing.Checks, logger)
	becomes(health.Ill, true)
	c.set(read("").Checks, logger)
	becomes(health.Unknown, false)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
