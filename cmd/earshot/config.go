package main

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/viper"

	"earshot/coordinator"
	"earshot/coordinator/health"
	"earshot/coordinator/hook"
	"earshot/raftstore"
)

// config is a node's configuration as the program uses it: every value is
// possible, and every default is filled in.
type config struct {
	// File is where the configuration was read from.
	File string

	Node string
	// Listen is "192.168.56.11:7440" or "eth1:7440"; resolveListen gives the
	// address.
	Listen string
	// Peers are "host:port".
	Peers   []string
	KeyFile string
	DataDir string
	Socket  string
	// Lease is how long the node may answer without hearing from the leader.
	Lease time.Duration
	// RestartLease is how long the cluster waits for a stopping agent to come
	// back; zero: not at all.
	RestartLease time.Duration
	Role         string
	// WatchConfig: the file is read again when it changes.
	WatchConfig bool
	Hooks       hook.Config
	Weight      weight
	Damping     coordinator.Damping
	// Prefer has, by service, the buckets that this node would rather have.
	Prefer map[string]string
	// Services, sorted by name.
	Services []raftstore.Definition
	// Checks of this node's own servers, by service.
	Checks map[string][]health.Spec
	// FallbackChecks are those for the case that no node passes Checks.
	FallbackChecks map[string][]health.Spec

	// Values has every key with its value as text, to tell what has changed.
	Values map[string]string

	// Warnings are findings that forbid nothing and that somebody should know.
	Warnings []string
}

// The defaults of the contract.
const (
	defaultConfig  = "/etc/earshot/earshot.yaml"
	defaultKeyFile = "/etc/earshot/key"
	defaultDataDir = "/var/lib/earshot"
	defaultSocket  = "/run/earshot.sock"
	defaultPort    = "7440"
)

// rawConfig is the file as text: types and unknown keys have been judged
// before, values not yet.
type rawConfig struct {
	Node          string
	Listen        string
	Peers         []string
	KeyFile       string `mapstructure:"key_file"`
	DataDir       string `mapstructure:"data_dir"`
	Socket        string
	Lease         string
	RestartLease  string `mapstructure:"restart_lease"`
	Role          string
	Weight        string
	WatchConfig   string `mapstructure:"watch_config"`
	HookTimeout   string `mapstructure:"hook_timeout"`
	Hooks         map[string]any
	Mature        string
	Round         string
	MovesPerRound string `mapstructure:"moves_per_round"`
	Services      map[string]rawService
}

// rawService is one service of the file.
type rawService struct {
	Address    string
	Interface  string
	Hash       string
	Prefix     string
	Ports      []string
	Buckets    string
	MAC        string
	MACMode    string `mapstructure:"mac_mode"`
	Drain      string
	OnFail     string `mapstructure:"on_fail"`
	QuorumLoss string `mapstructure:"quorum_loss"`
	Balance    string
	Fallback   string
	Prefer     string
}

// loadConfig reads the file and the environment. It changes nothing. All that
// is wrong is reported at once, as a configError.
func loadConfig(file string) (config, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return config{}, missingConfig(file, err)
	}
	l := newLoader(file)
	tree := l.readFile(data)
	if l.refused("") { // not even keys and values: nothing to judge
		return config{}, l.err()
	}
	l.readEnviron(os.Environ())
	raw := l.merge(tree)
	cfg := l.convert(raw)
	return cfg, l.err()
}

// missingConfig is the error for a config file that cannot be read.
func missingConfig(file string, err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	e := &configError{Problems: []problem{{Where: file, Text: err.Error()}}}
	if errors.Is(err, os.ErrNotExist) {
		e.Problems[0].Hint = "name the file with --config; docs/earshot.example.yaml is one to start from"
	}
	return e
}

// loader carries what is known of a configuration while it is read.
type loader struct {
	file string
	// lines has the line of each key of the file.
	lines map[string]int
	// vars has the environment variable of each key that came from there.
	vars     map[string]string
	services []string
	// checks has what was read under each key that holds some.
	checks   map[string][]health.Spec
	problems []problem
	warnings []string
	values   map[string]string
}

func newLoader(file string) *loader {
	return &loader{file: file, lines: map[string]int{}, vars: map[string]string{}, checks: map[string][]health.Spec{}}
}

// refuse notes what is wrong with a key. The first finding about a key is the
// one that counts.
func (l *loader) refuse(key, format string, args ...any) {
	l.refuseAt(l.where(key), key, "", format, args...)
}

// advise refuses like refuse, with the way out as a hint.
func (l *loader) advise(hint, key, format string, args ...any) {
	l.refuseAt(l.where(key), key, hint, format, args...)
}

func (l *loader) refuseAt(where, key, hint, format string, args ...any) {
	if l.refused(key) {
		return
	}
	l.problems = append(l.problems, problem{Where: where, Key: key, Text: fmt.Sprintf(format, args...), Hint: hint})
}

func (l *loader) refused(key string) bool {
	return slices.ContainsFunc(l.problems, func(p problem) bool { return p.Key == key })
}

func (l *loader) warn(key, format string, args ...any) {
	l.warnings = append(l.warnings, fmt.Sprintf("%s: %s: %s", l.where(key), key, fmt.Sprintf(format, args...)))
}

// where says where a key's value came from: the variable, the line, or the
// file that lacks it.
func (l *loader) where(key string) string {
	if name, ok := l.vars[key]; ok {
		return "environment " + name
	}
	if line, ok := l.lines[key]; ok {
		return fmt.Sprintf("%s:%d", l.file, line)
	}
	if i := strings.LastIndexByte(key, '.'); i >= 0 {
		return l.where(key[:i]) // the service that lacks it
	}
	return l.file
}

// given reports whether the file or the environment has the key.
func (l *loader) given(key string) bool {
	return l.lines[key] > 0 || l.vars[key] != ""
}

// err is all that was refused, in the order of the file.
func (l *loader) err() error {
	if len(l.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(l.problems, func(a, b problem) int {
		return cmp.Compare(l.lineOf(a), l.lineOf(b))
	})
	return &configError{Problems: l.problems}
}

// lineOf is the line that a problem is sorted by; what has none comes last.
func (l *loader) lineOf(p problem) int {
	number, _ := strings.CutPrefix(p.Where, l.file+":")
	line, err := strconv.Atoi(number)
	if err != nil {
		return math.MaxInt
	}
	return line
}

// keyDelimiter separates the parts of viper's keys. It is none of the
// characters that a name can have; the dot is one.
const keyDelimiter = "/"

// merge lays defaults, file and environment over each other.
func (l *loader) merge(tree map[string]any) rawConfig {
	v := viper.NewWithOptions(viper.KeyDelimiter(keyDelimiter))
	for _, k := range configKeys() {
		if k.fallback != "" {
			v.SetDefault(k.name, k.fallback)
		}
	}
	for _, service := range l.services {
		for _, k := range serviceKeys() {
			if k.fallback != "" {
				v.SetDefault(viperKey(serviceKey(service, k.name)), k.fallback)
			}
		}
	}
	for key, name := range l.vars {
		// BindEnv fails only without a key.
		_ = v.BindEnv(viperKey(key), name)
	}
	var raw rawConfig
	err := v.MergeConfigMap(tree)
	if err == nil {
		err = v.Unmarshal(&raw, viper.DecodeHook(splitList))
	}
	if err != nil {
		l.refuse("", "%v", err)
	}
	l.values = l.valuesOf(v)
	return raw
}

// valuesOf writes the value of each key that the file, the environment or a
// default gives.
func (l *loader) valuesOf(v *viper.Viper) map[string]string {
	values := map[string]string{}
	note := func(key string) {
		if value := v.Get(viperKey(key)); value != nil {
			values[key] = fmt.Sprint(value)
		}
	}
	for _, k := range configKeys() {
		if k.name != "services" {
			note(k.name)
		}
	}
	for _, service := range l.services {
		for _, k := range serviceKeys() {
			key := serviceKey(service, k.name)
			if specs := l.checks[key]; k.kind == checks && len(specs) > 0 {
				values[key] = fmt.Sprint(specs) // viper has not seen them
				continue
			}
			note(key)
		}
	}
	return values
}

// serviceKey is the name of a service's key as people write it.
func serviceKey(service, key string) string { return "services." + service + "." + key }

// viperKey is a key in the form that viper wants. Only the outer dots
// separate: a service's name may contain some.
func viperKey(key string) string {
	if name, ok := strings.CutPrefix(key, "hooks."); ok {
		return "hooks" + keyDelimiter + name
	}
	rest, ok := strings.CutPrefix(key, "services.")
	if !ok {
		return key
	}
	last := strings.LastIndexByte(rest, '.')
	return strings.Join([]string{"services", rest[:last], rest[last+1:]}, keyDelimiter)
}
