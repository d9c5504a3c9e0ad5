package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// watchQuiet is how long a config that changes has to stay as it is before it
// is read: editors write in several steps.
const watchQuiet = 300 * time.Millisecond

// watchConfig calls changed when the file has another content than before,
// until ctx ends. It watches the directories: editors, and those who deploy
// files by links, put a new file in the place of the old one.
func watchConfig(ctx context.Context, file string, logger *slog.Logger, changed func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch_config: %w", err)
	}
	defer w.Close()
	watched := func() error {
		dirs := []string{filepath.Dir(file)}
		if target, err := filepath.EvalSymlinks(file); err == nil {
			dirs = append(dirs, filepath.Dir(target))
		}
		for _, dir := range dirs {
			if err := w.Add(dir); err != nil {
				return fmt.Errorf("watch_config: watch %s: %w", dir, err)
			}
		}
		return nil
	}
	if err := watched(); err != nil {
		return err
	}
	last, _ := os.ReadFile(file)
	quiet := time.NewTimer(0)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.Events:
			quiet.Reset(watchQuiet)
		case err := <-w.Errors:
			logger.Warn("changes of the config may go unseen; `earshot reload` reads it", "error", err)
		case <-quiet.C:
			if err := watched(); err != nil { // a link may lead elsewhere now
				logger.Warn("changes of the config may go unseen; `earshot reload` reads it", "error", err)
			}
			// A file that is away for a moment is none that was changed.
			now, err := os.ReadFile(file)
			if err == nil && !bytes.Equal(now, last) {
				last = now
				changed()
			}
		}
	}
}
