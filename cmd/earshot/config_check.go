package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"earshot/coordinator/health"
)

// checkKeys are the keys of one health check.
func checkKeys() []configKey {
	keys := []configKey{
		{name: "address", kind: text},
		{name: "name", kind: text},
		{name: "type", kind: text},
		{name: "transport", kind: text},
		{name: "method", kind: text},
		{name: "host", kind: text},
		{name: "status", kind: numberOrText},
		{name: "expect", kind: text},
		{name: "verify", kind: truth},
		{name: "redirects", kind: truth},
		{name: "interval", kind: duration},
		{name: "timeout", kind: duration},
		{name: "grace", kind: duration},
		{name: "fall", kind: number},
		{name: "rise", kind: number},
	}
	for _, k := range health.Kinds() {
		kind := text
		if k == health.Exec {
			kind = textOrList
		}
		keys = append(keys, configKey{name: string(k), kind: kind})
	}
	return keys
}

// readChecks reads a service's check, or a list of checks that must all pass,
// and keeps them under the key.
func (l *loader) readChecks(path string, n *yaml.Node) {
	n = resolve(n)
	if n.Kind != yaml.SequenceNode {
		if s, ok := l.readCheck(path, n); ok {
			l.checks[path] = []health.Spec{s}
		}
		return
	}
	if len(n.Content) == 0 {
		l.refuse(path, "is empty; leave the key out to check nothing")
	}
	for i, item := range n.Content {
		each := fmt.Sprintf("%s[%d]", path, i)
		l.lines[each] = item.Line
		if s, ok := l.readCheck(each, resolve(item)); ok {
			l.checks[path] = append(l.checks[path], s)
		}
	}
}

// readCheck reads one check and judges it.
func (l *loader) readCheck(path string, n *yaml.Node) (health.Spec, bool) {
	if n.Kind != yaml.MappingNode {
		l.advise(`write check: {http: "http://127.0.0.1/alive.html"}, or a list of such`, path, "is %s, must be a mapping of keys to values, or a list of such", describe(n))
		return health.Spec{}, false
	}
	before := len(l.problems)
	values := l.readMapping(n, checkKeys(), path+".")
	s := health.Spec{Kind: l.checkKind(path, values)}
	if s.Kind == "" {
		return s, false
	}
	l.fillCheck(&s, path, values)
	if len(l.problems) > before {
		return s, false
	}
	_, problems := health.New(s, nil)
	for _, p := range problems {
		l.advise(p.Hint, path+"."+p.Key, "%s", p.Text)
	}
	return s, len(problems) == 0
}

// checkKind finds the one key that says what is asked.
func (l *loader) checkKind(path string, values map[string]any) health.Kind {
	var given []string
	for _, k := range health.Kinds() {
		if l.given(path + "." + string(k)) {
			given = append(given, string(k))
		}
	}
	switch len(given) {
	case 0:
		var all []string
		for _, k := range health.Kinds() {
			all = append(all, string(k))
		}
		l.refuse(path, "says nothing to check (use one of %s)", strings.Join(all, ", "))
		return ""
	case 1:
	default:
		l.advise("make a list of two checks; both must pass then", path+"."+given[1], "goes not together with %s", given[0])
		return ""
	}
	if values[given[0]] == nil {
		return "" // refused
	}
	return health.Kind(given[0])
}

// fillCheck gives the check's values their types.
func (l *loader) fillCheck(s *health.Spec, path string, values map[string]any) {
	for _, name := range l.inOrder(path, values) {
		key, value := path+"."+name, values[name]
		if name != string(s.Kind) && !s.Kind.Takes(name) {
			l.refuse(key, "does not go with a check of kind %s", s.Kind)
			continue
		}
		word := fmt.Sprint(value)
		switch name {
		case "address":
			s.Address = word
		case "name":
			s.Name = word
		case "type":
			s.Type = word
		case "transport":
			s.Transport = word
		case "method":
			s.Method = word
		case "host":
			s.Host = word
		case "status":
			s.Status = word
		case "expect":
			s.Expect = word
		case "verify":
			s.Unproved = value == false
		case "redirects":
			s.Redirects = value == true
		case "interval":
			s.Interval = l.someTime(key, word)
		case "timeout":
			s.Timeout = l.someTime(key, word)
		case "grace":
			s.Grace = l.duration(key, word)
		case "fall":
			s.Fall = l.someNumber(key, word)
		case "rise":
			s.Rise = l.someNumber(key, word)
		default: // the kind itself
			if list, ok := value.([]any); ok {
				for _, item := range list {
					s.Command = append(s.Command, fmt.Sprint(item))
				}
			} else {
				s.Target = word
			}
		}
	}
}

// inOrder lists the keys of a check as they stand in the file.
func (l *loader) inOrder(path string, values map[string]any) []string {
	var names []string
	for name := range values {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(l.lines[path+"."+a], l.lines[path+"."+b]), cmp.Compare(a, b))
	})
	return names
}

// someTime reads a duration that cannot be zero, which stands for the default.
func (l *loader) someTime(key, word string) time.Duration {
	d := l.duration(key, word)
	if d == 0 && !l.refused(key) {
		l.refuse(key, "is zero")
	}
	return d
}

// someNumber reads a number that cannot be zero.
func (l *loader) someNumber(key, word string) int {
	n, err := strconv.Atoi(word)
	if err != nil || n == 0 {
		l.refuse(key, "%s is out of range (1 to %d)", word, health.MaxCount)
	}
	return n
}

// checkFromEnviron reads a check from a variable, written as YAML in one line.
// It stands in place of the file's.
func (l *loader) checkFromEnviron(key, name, text string) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil || len(doc.Content) == 0 {
		l.refuseAt("environment "+name, key, `write it as in {http: "http://127.0.0.1/", expect: word}`, "is no YAML")
		return
	}
	apart := newLoader(l.file)
	apart.readChecks(key, doc.Content[0])
	for _, p := range apart.problems {
		p.Where = "environment " + name
		l.problems = append(l.problems, p)
	}
	l.checks[key] = apart.checks[key]
}

// checksOf collects what was read for the services under one key, by service.
func (l *loader) checksOf(key string) map[string][]health.Spec {
	var all map[string][]health.Spec
	for _, service := range l.services {
		if specs := l.checks[serviceKey(service, key)]; len(specs) > 0 {
			if all == nil {
				all = map[string][]health.Spec{}
			}
			all[service] = specs
		}
	}
	return all
}
