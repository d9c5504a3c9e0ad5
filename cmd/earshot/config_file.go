package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readFile returns the file's keys and values. What is wrong with its form
// (syntax, unknown or doubled keys, types) is noted, and left out of the
// result. Viper cannot do this: it folds the case of keys and forgets nulls.
func (l *loader) readFile(data []byte) map[string]any {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) { // an empty file
		return map[string]any{}
	}
	if err != nil {
		l.refuse("", "%s", strings.TrimPrefix(err.Error(), "yaml: "))
		return map[string]any{}
	}
	if !errors.Is(dec.Decode(&yaml.Node{}), io.EOF) {
		l.refuse("", "more than one YAML document; keep one")
		return map[string]any{}
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		l.refuse("", "%s, not keys and values as in node: n1", describe(root))
		return map[string]any{}
	}
	return l.readMapping(root, configKeys(), "")
}

// readMapping reads the known keys of a mapping.
func (l *loader) readMapping(n *yaml.Node, keys []configKey, prefix string) map[string]any {
	values := map[string]any{}
	l.eachPair(n, prefix, func(name string, value *yaml.Node) {
		k, found, meant := findKey(keys, name)
		path := prefix + name
		switch {
		case !found && meant != "":
			l.advise(fmt.Sprintf("did you mean %s?", prefix+meant), path, "unknown key")
		case !found:
			l.refuse(path, "unknown key")
		case path == "services":
			values[name] = l.readServices(value)
		case k.kind == checks:
			l.readChecks(path, value)
		case path == "hooks":
			if _, ok := l.readValue(path, mapping, value); ok {
				values[name] = l.readMapping(resolve(value), hookKeys(), "hooks.")
			}
		default:
			if v, ok := l.readValue(path, k.kind, value); ok {
				values[name] = v
			}
		}
	})
	return values
}

// readServices reads the mapping of services, each under its name.
func (l *loader) readServices(n *yaml.Node) map[string]any {
	services := map[string]any{}
	if _, ok := l.readValue("services", mapping, n); !ok {
		return services
	}
	l.eachPair(resolve(n), "services.", func(name string, value *yaml.Node) {
		path := "services." + name
		if err := checkServiceName(name); err != nil {
			l.refuse(path, "%v", err)
			return
		}
		if _, ok := l.readValue(path, mapping, value); !ok {
			return
		}
		services[name] = l.readMapping(resolve(value), serviceKeys(), path+".")
		l.services = append(l.services, name)
	})
	return services
}

// eachPair calls f with each key of a mapping and its value, and notes where
// it stands. Keys that come twice are refused: YAML readers differ in which
// of the two they take.
func (l *loader) eachPair(n *yaml.Node, prefix string, f func(name string, value *yaml.Node)) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		path := prefix + key.Value
		if first, twice := l.lines[path]; twice {
			l.problems = append(l.problems, problem{
				Where: fmt.Sprintf("%s:%d", l.file, key.Line), Key: path, Text: fmt.Sprintf("given twice, first in line %d", first),
			})
			continue
		}
		l.lines[path] = key.Line
		f(key.Value, value)
	}
}

// readValue returns the value of a key if its YAML type is right.
func (l *loader) readValue(path string, want kind, n *yaml.Node) (any, bool) {
	n = resolve(n)
	if n.Tag == "!!null" {
		l.refuse(path, "has no value; give it one, or leave the key out")
		return nil, false
	}
	if !fits(want, n) {
		hint := ""
		if want == text && n.Kind == yaml.ScalarNode {
			hint = fmt.Sprintf("write it in quotes: %q", n.Value)
		}
		what := describe(n)
		if want == list || want == textOrList {
			what = describeItems(n)
		}
		l.advise(hint, path, "is %s, must be %s", what, want)
		return nil, false
	}
	if want == mapping {
		return nil, true
	}
	var v any
	if err := n.Decode(&v); err != nil {
		l.refuse(path, "%s", strings.TrimPrefix(err.Error(), "yaml: "))
		return nil, false
	}
	return v, true
}

// fits reports whether a YAML value has the type that a key takes.
func fits(want kind, n *yaml.Node) bool {
	switch want {
	case textOrList:
		return fits(text, n) || fits(list, n)
	case truth:
		return n.Tag == "!!bool"
	case list:
		if n.Kind != yaml.SequenceNode {
			return false
		}
		for _, item := range n.Content {
			if resolve(item).Tag != "!!str" {
				return false
			}
		}
		return true
	case mapping:
		return n.Kind == yaml.MappingNode
	case number:
		return n.Tag == "!!int"
	case numberOrText:
		return n.Tag == "!!int" || n.Tag == "!!str"
	default:
		return n.Tag == "!!str"
	}
}

// describe says what a YAML value is.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.Tag {
	case "!!null":
		return "nothing"
	case "!!int", "!!float":
		return "the number " + n.Value
	case "!!bool":
		return "the truth value " + n.Value
	case "!!timestamp":
		return "the date " + n.Value
	}
	return fmt.Sprintf("the text %q", n.Value)
}

// describeItems says what a list has that is no text.
func describeItems(n *yaml.Node) string {
	if n.Kind == yaml.SequenceNode {
		for i, item := range n.Content {
			if item = resolve(item); item.Tag != "!!str" {
				return fmt.Sprintf("a list whose item %d is %s", i+1, describe(item))
			}
		}
	}
	return describe(n)
}

// resolve follows an alias to what it stands for.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}
