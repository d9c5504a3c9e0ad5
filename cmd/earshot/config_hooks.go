package main

import (
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"time"

	"earshot/coordinator/child"
	"earshot/coordinator/event"
	"earshot/coordinator/hook"
)

// maxHookTimeout is how long a hook may be given: its successors wait for it.
const maxHookTimeout = 10 * time.Minute

// hooks reads the commands of the hooks.
func (l *loader) hooks(raw rawConfig) hook.Config {
	c := hook.Config{Timeout: l.duration("hook_timeout", raw.HookTimeout), Commands: map[event.Type][]string{}}
	if !l.refused("hook_timeout") && (c.Timeout < 100*time.Millisecond || c.Timeout > maxHookTimeout) {
		l.refuse("hook_timeout", "%v is out of range (100ms to %v)", c.Timeout, maxHookTimeout)
	}
	names := hook.Names()
	for _, name := range slices.Sorted(maps.Keys(raw.Hooks)) {
		key := "hooks." + name
		args, err := commandOf(raw.Hooks[name])
		switch {
		case err != nil:
			l.advise(`write a list: [sh, -c, "…"], if it needs a shell`, key, "%v", err)
		case len(args) == 0 || args[0] == "":
			l.refuse(key, "names no program")
		default:
			if _, err := exec.LookPath(args[0]); err != nil {
				l.warn(key, "%s is no program that can be run: %v", args[0], errors.Unwrap(err))
			}
			c.Commands[names[name]] = args
		}
	}
	return c
}

// commandOf is a command that is written as one text or as a list of words.
func commandOf(value any) ([]string, error) {
	if line, ok := value.(string); ok {
		return child.Words(line)
	}
	var args []string
	words, _ := value.([]any) // its type was judged before
	for _, word := range words {
		args = append(args, fmt.Sprint(word))
	}
	return args, nil
}
