package main

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"earshot/coordinator/hook"
	"earshot/hashmode"
)

// kind is what YAML type a key takes.
type kind int

const (
	text kind = iota
	duration
	number
	numberOrText
	list
	textOrList
	truth
	mapping
	checks
)

// String names the kind as an error message does.
func (k kind) String() string {
	switch k {
	case text:
		return "text"
	case duration:
		return "a duration such as 300ms"
	case number, numberOrText:
		return "a whole number"
	case list:
		return "a list of texts, as in [a, b]"
	case textOrList:
		return "text or a list of texts"
	case truth:
		return "true or false"
	case mapping, checks:
		return "a mapping of keys to values"
	}
	return "something else"
}

// configKey is one key that a config file may have.
type configKey struct {
	name string
	kind kind
	// fallback is the default, if it does not depend on other keys.
	fallback string
}

// configKeys are the keys at the top of the file.
func configKeys() []configKey {
	return []configKey{
		{name: "node", kind: text},
		{name: "listen", kind: text},
		{name: "peers", kind: list},
		{name: "key_file", kind: text, fallback: defaultKeyFile},
		{name: "data_dir", kind: text, fallback: defaultDataDir},
		{name: "socket", kind: text, fallback: defaultSocket},
		{name: "lease", kind: duration, fallback: "300ms"},
		{name: "restart_lease", kind: duration, fallback: "10s"},
		{name: "role", kind: text, fallback: "node"},
		{name: "weight", kind: numberOrText, fallback: "1"},
		{name: "watch_config", kind: truth, fallback: "false"},
		{name: "hook_timeout", kind: duration, fallback: hook.DefaultTimeout.String()},
		{name: "hooks", kind: mapping},
		{name: "mature", kind: duration, fallback: "5s"},
		{name: "round", kind: duration, fallback: "1s"},
		{name: "moves_per_round", kind: number, fallback: "256"},
		{name: "services", kind: mapping},
	}
}

// hookKeys are the keys below hooks.
func hookKeys() []configKey {
	var keys []configKey
	for _, name := range slices.Sorted(maps.Keys(hook.Names())) {
		keys = append(keys, configKey{name: name, kind: textOrList})
	}
	return keys
}

// serviceKeys are the keys of one service.
func serviceKeys() []configKey {
	return []configKey{
		{name: "address", kind: text},
		{name: "interface", kind: text},
		{name: "hash", kind: text, fallback: string(hashmode.SourceIP)},
		{name: "prefix", kind: number},
		{name: "ports", kind: list},
		{name: "buckets", kind: number, fallback: "1024"},
		{name: "mac", kind: text},
		{name: "mac_mode", kind: text, fallback: "multicast"},
		{name: "drain", kind: duration, fallback: (10 * time.Minute).String()},
		{name: "on_fail", kind: text, fallback: "drain"},
		{name: "quorum_loss", kind: text, fallback: "fence"},
		{name: "balance", kind: text, fallback: "even"},
		{name: "fallback", kind: text, fallback: "keep"},
		{name: "prefer", kind: text},
		{name: "check", kind: checks},
		{name: "fallback_check", kind: checks},
	}
}

// findKey returns the key of the given name, or one that was probably meant.
func findKey(keys []configKey, name string) (k configKey, found bool, meant string) {
	for _, k := range keys {
		if k.name == name {
			return k, true, ""
		}
	}
	folded := strings.ReplaceAll(strings.ToLower(name), "-", "_")
	nearest := slices.MinFunc(keys, func(a, b configKey) int {
		return cmp.Compare(distance(a.name, folded), distance(b.name, folded))
	})
	if distance(nearest.name, folded) <= max(1, (len(folded)+1)/3) {
		return configKey{}, false, nearest.name
	}
	return configKey{}, false, ""
}

// distance is the number of letters to insert, delete or replace between two
// words (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
