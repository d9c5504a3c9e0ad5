package main

import (
	"reflect"
	"slices"
	"strings"
)

// envPrefix begins the name of each environment variable that is ours.
const envPrefix = "EARSHOT_"

// readEnviron finds the keys that come from the environment. A service that
// only the environment knows is added.
func (l *loader) readEnviron(environ []string) {
	slices.Sort(environ) // for messages in a stable order
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		word, ours := strings.CutPrefix(name, envPrefix)
		// An empty variable counts as none, as everywhere in the shell.
		if !ours || value == "" || name == envConfig {
			continue
		}
		key, ok := l.envKey(word)
		switch {
		case !ok:
			l.unknownVariable(name, word)
		case l.isCheck(key):
			l.checkFromEnviron(key, name, value)
		default:
			l.vars[key] = name
		}
	}
}

// isCheck reports whether the key of a service holds health checks.
func (l *loader) isCheck(key string) bool {
	k, _, _ := findKey(serviceKeys(), key[strings.LastIndexByte(key, '.')+1:])
	return k.kind == checks && strings.HasPrefix(key, "services.")
}

// unknownVariable refuses what looks like a key, mistyped. Other programs,
// too, may have variables that begin like ours: those are worth a warning.
func (l *loader) unknownVariable(name, word string) {
	_, _, meant := findKey(configKeys(), strings.ToLower(word))
	switch {
	case word == "SERVICES", strings.HasPrefix(word, "SERVICES_"):
		l.refuseAt("environment", name, "", "names no key of a service")
	case word == "HOOKS", strings.HasPrefix(word, "HOOKS_"):
		l.refuseAt("environment", name, "", "names no hook")
	case meant != "":
		l.refuseAt("environment", name, "did you mean "+envPrefix+envWord(meant)+"?", "names no key")
	default:
		l.warnings = append(l.warnings, "environment: "+name+" names no key and is ignored")
	}
}

// envKey returns the key that a variable names, without its prefix:
// SERVICES_WEB_HASH is services.web.hash.
func (l *loader) envKey(word string) (string, bool) {
	if name, ok := strings.CutPrefix(word, "HOOKS_"); ok {
		for _, k := range hookKeys() {
			if envWord(k.name) == name {
				return "hooks." + k.name, true
			}
		}
		return "", false
	}
	rest, ok := strings.CutPrefix(word, "SERVICES_")
	if !ok {
		for _, k := range configKeys() {
			if k.kind != mapping && envWord(k.name) == word {
				return k.name, true
			}
		}
		return "", false
	}
	keys := serviceKeys()
	slices.SortFunc(keys, func(a, b configKey) int { return len(b.name) - len(a.name) }) // FALLBACK_CHECK before CHECK
	for _, k := range keys {
		service, ok := strings.CutSuffix(rest, "_"+envWord(k.name))
		if ok && service != "" {
			return serviceKey(l.envService(service), k.name), true
		}
	}
	return "", false
}

// envService returns the service that a part of a variable's name means: one
// of the file, or a new one.
func (l *loader) envService(word string) string {
	for _, name := range l.services {
		if envWord(name) == word {
			return name
		}
	}
	name := strings.ToLower(word)
	if err := checkServiceName(name); err != nil {
		l.refuse("services."+name, "%v", err)
		return name
	}
	l.services = append(l.services, name)
	return name
}

// envWord writes a key or a service's name as environment variables do.
func envWord(name string) string {
	return strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(name))
}

// splitList is viper's hook for lists that come from a variable: separated by
// commas or spaces.
func splitList(from, to reflect.Type, value any) (any, error) {
	if from.Kind() != reflect.String || to.Kind() != reflect.Slice {
		return value, nil
	}
	return strings.FieldsFunc(value.(string), func(r rune) bool { return r == ',' || r == ' ' }), nil
}
