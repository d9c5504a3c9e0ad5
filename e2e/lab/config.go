package lab

import (
	"time"

	"go.yaml.in/yaml/v3"
)

// Config is an agent's config file. Zero fields are left out, so that the
// agent's defaults hold.
type Config struct {
	Node    string            `yaml:"node,omitempty"`
	Listen  string            `yaml:"listen,omitempty"`
	Peers   []string          `yaml:"peers,omitempty,flow"`
	KeyFile string            `yaml:"key_file,omitempty"`
	DataDir string            `yaml:"data_dir,omitempty"`
	Socket  string            `yaml:"socket,omitempty"`
	Lease   Duration          `yaml:"lease,omitempty"`
	Role    string            `yaml:"role,omitempty"`
	Weight  string            `yaml:"weight,omitempty"`
	Hooks   map[string]string `yaml:"hooks,omitempty"`
	Watch   bool              `yaml:"watch_config,omitempty"`
	// Mature and Round are texts, so that a zero can be written.
	Mature        string             `yaml:"mature,omitempty"`
	Round         string             `yaml:"round,omitempty"`
	MovesPerRound int                `yaml:"moves_per_round,omitempty"`
	Services      map[string]Service `yaml:"services,omitempty"`
}

// Service is one service of a Config.
type Service struct {
	Address       string   `yaml:"address,omitempty"`
	Interface     string   `yaml:"interface,omitempty"`
	Hash          string   `yaml:"hash,omitempty"`
	Prefix        int      `yaml:"prefix,omitempty"`
	Ports         []string `yaml:"ports,omitempty,flow"`
	Buckets       int      `yaml:"buckets,omitempty"`
	MAC           string   `yaml:"mac,omitempty"`
	MACMode       string   `yaml:"mac_mode,omitempty"`
	Drain         Duration `yaml:"drain,omitempty"`
	OnFail        string   `yaml:"on_fail,omitempty"`
	QuorumLoss    string   `yaml:"quorum_loss,omitempty"`
	Prefer        string   `yaml:"prefer,omitempty"`
	Balance       string   `yaml:"balance,omitempty"`
	Fallback      string   `yaml:"fallback,omitempty"`
	Check         any      `yaml:"check,omitempty"` // a mapping, or a list of such
	FallbackCheck any      `yaml:"fallback_check,omitempty"`
}

// Duration is written as the agent reads it, "300ms".
type Duration time.Duration

// MarshalYAML writes the duration as text.
func (d Duration) MarshalYAML() (any, error) { return time.Duration(d).String(), nil }

// Bytes is the config as YAML.
func (c Config) Bytes() ([]byte, error) { return yaml.Marshal(c) }
