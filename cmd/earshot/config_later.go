package main

import "strings"

// laterRule is a part of the contract that this version does not do yet. It
// is refused: ignoring it would look like doing it.
type laterRule struct {
	key     string // the last part of the key
	refuses func(value string) bool
	reason  string
}

// laterRules is the one place that says what is still to come. Whoever builds
// one takes its line out.
func laterRules() []laterRule {
	return []laterRule{
		{"quorum_loss", is("survive"), "survive comes in a later version; use fence"},
	}
}

// later refuses a value that is for a later version, and reports whether it
// did.
func (l *loader) later(path, value string) bool {
	key := path[strings.LastIndexByte(path, '.')+1:]
	for _, rule := range laterRules() {
		if rule.key == key && rule.refuses(value) {
			l.refuse(path, "%s", rule.reason)
			return true
		}
	}
	return false
}

func is(word string) func(string) bool {
	return func(value string) bool { return value == word }
}
