package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"earshot/coordinator"
	"earshot/coordinator/event"
	"earshot/coordinator/hook"
	"earshot/hashmode"
	"earshot/raftstore"
)

// clearEnv takes our variables of the machine that runs the tests away.
func clearEnv(t *testing.T) {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, envPrefix) {
			t.Setenv(name, "") // empty counts as unset
		}
	}
}

// writeConfig writes a configuration to a file of its own.
func writeConfig(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "earshot.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Each file of testdata/config breaks one rule; the .err beside it has the
// exact message.
func TestBadConfigs(t *testing.T) {
	clearEnv(t)
	files, err := filepath.Glob("testdata/config/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			_, err := loadConfig(file)
			var cfg *configError
			if !errors.As(err, &cfg) {
				t.Fatalf("accepted: %v", err)
			}
			if got := exitStatus(err); got != exitMisuse {
				t.Errorf("exit status %d", got)
			}
			var out bytes.Buffer
			report(&out, err)
			golden(t, "config/"+name+".err", strings.ReplaceAll(out.String(), "testdata/config/", ""))
		})
	}
}

// Every part that is still to come has a file that shows its refusal.
func TestEveryLaterRuleHasItsMessage(t *testing.T) {
	files, err := filepath.Glob("testdata/config/later-*.err")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	for _, rule := range laterRules() {
		if !strings.Contains(all.String(), rule.key+": "+rule.reason+"\n") {
			t.Errorf("no file shows %s: %s", rule.key, rule.reason)
		}
	}
}

func TestMissingConfig(t *testing.T) {
	_, err := loadConfig("testdata/none.yaml")
	if err == nil || err.Error() != "testdata/none.yaml: no such file or directory" {
		t.Errorf("got %v", err)
	}
}

// The example of the documentation is a configuration.
func TestExampleConfig(t *testing.T) {
	clearEnv(t)
	t.Setenv("EARSHOT_NODE", "n1")
	got, err := loadConfig("../../docs/earshot.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.File = "../../docs/earshot.example.yaml"
	want.Listen = "eth1:7440"
	want.Peers = append(want.Peers, "192.168.56.13:7440")
	want.Services[0].Ports = []string{"tcp/443", "tcp/80"}
	got.Values = nil // TestValues
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// defaults is what the smallest configuration of the tests becomes.
func defaults() config {
	return config{
		Node: "n1", Listen: "192.168.56.11:7440", Peers: []string{"192.168.56.11:7440", "192.168.56.12:7440"},
		KeyFile: "/etc/earshot/key", DataDir: "/var/lib/earshot", Socket: "/run/earshot.sock",
		Lease: 300 * time.Millisecond, RestartLease: 10 * time.Second, Role: "node", Weight: weight{Fixed: 1},
		Hooks:   hook.Config{Timeout: hook.DefaultTimeout, Commands: map[event.Type][]string{}},
		Damping: coordinator.Damping{Mature: 5 * time.Second, Round: time.Second, MovesPerRound: 256},
		Services: []raftstore.Definition{{
			Name: "web", Address: mustPrefix("192.168.56.20/24"), Interface: "eth1", Hash: hashmode.SourceIP,
			Buckets: 1024, MAC: "01:00:5e:28:38:14", MACMode: "multicast", Drain: 10 * time.Minute,
			OnFail: "drain", QuorumLoss: "fence",
		}},
	}
}

const smallConfig = `node: n1
listen: 192.168.56.11
peers: [192.168.56.11, 192.168.56.12]
services:
  web: {address: 192.168.56.20/24, interface: eth1}
`

func TestDefaults(t *testing.T) {
	clearEnv(t)
	file := writeConfig(t, smallConfig)
	got, err := loadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.File = file
	got.Values = nil // TestValues
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// Every key can be given, and every value arrives.
func TestEveryKey(t *testing.T) {
	clearEnv(t)
	file := writeConfig(t, `
node: a.b-c_1
listen: eth0:1
peers: [n1.example:7441, "[2001:db8::1]:7440", 2001:db8::2]
key_file: /k
data_dir: /d
socket: /s
lease: 60ms
restart_lease: 0s
role: node
weight: 3
watch_config: true
hook_timeout: 1m
hooks:
  on_gain: "true 'a b' c"
  on_no_quorum: ["false", $HOME]
mature: 1m
round: 500ms
moves_per_round: 0
services:
  z-9: &z
    address: 10.0.0.9/32
    interface: bond0.17
    hash: sourceip-sourceport-destport
    ports: [udp/53, tcp/53]
    buckets: 65536
    mac: 01-00-5E-01-02-03
    mac_mode: multicast
    drain: 0s
    on_fail: drain
    quorum_loss: fence
    balance: load
    fallback: refuse
    prefer: "100,0-63"
  a.b: {address: 10.0.0.8/31, interface: eth1}
  net: {address: 10.0.0.7/24, interface: eth1, hash: sourcenet}
  net6: {address: "2001:db8::7/64", interface: eth1, hash: sourcenet}
  net7: {address: "2001:db8::8/64", interface: eth1, hash: sourcenet, prefix: 128}
`)
	got, err := loadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	want := config{
		File: file, Node: "a.b-c_1", Listen: "eth0:1", Peers: []string{"n1.example:7441", "[2001:db8::1]:7440", "[2001:db8::2]:7440"},
		KeyFile: "/k", DataDir: "/d", Socket: "/s", Lease: 60 * time.Millisecond, Role: "node", Weight: weight{Fixed: 3},
		WatchConfig: true, Hooks: hook.Config{Timeout: time.Minute, Commands: map[event.Type][]string{
			event.Gain: {"true", "a b", "c"}, event.NoQuorum: {"false", "$HOME"},
		}},
		Damping: coordinator.Damping{Mature: time.Minute, Round: 500 * time.Millisecond},
		Prefer:  map[string]string{"z-9": "0-63,100"},
		Services: []raftstore.Definition{
			{
				Name: "a.b", Address: mustPrefix("10.0.0.8/31"), Interface: "eth1", Hash: hashmode.SourceIP, Buckets: 1024,
				MAC: "01:00:5e:40:00:08", MACMode: "multicast", Drain: 10 * time.Minute, OnFail: "drain", QuorumLoss: "fence",
			},
			{
				Name: "net", Address: mustPrefix("10.0.0.7/24"), Interface: "eth1", Hash: hashmode.SourceNet, Prefix: 24, Buckets: 1024,
				MAC: "01:00:5e:40:00:07", MACMode: "multicast", Drain: 10 * time.Minute, OnFail: "drain", QuorumLoss: "fence",
			},
			{
				Name: "net6", Address: mustPrefix("2001:db8::7/64"), Interface: "eth1", Hash: hashmode.SourceNet, Prefix: 56, Buckets: 1024,
				MAC: "33:33:80:00:00:07", MACMode: "multicast", Drain: 10 * time.Minute, OnFail: "drain", QuorumLoss: "fence",
			},
			{
				Name: "net7", Address: mustPrefix("2001:db8::8/64"), Interface: "eth1", Hash: hashmode.SourceNet, Prefix: 128, Buckets: 1024,
				MAC: "33:33:80:00:00:08", MACMode: "multicast", Drain: 10 * time.Minute, OnFail: "drain", QuorumLoss: "fence",
			},
			{
				Name: "z-9", Address: mustPrefix("10.0.0.9/32"), Interface: "bond0.17", Hash: hashmode.SourceIPSourcePortDestPort,
				Ports: []string{"tcp/53", "udp/53"}, Buckets: 65536, MAC: "01:00:5e:01:02:03", MACMode: "multicast",
				OnFail: "drain", QuorumLoss: "fence", Balance: "load", Fallback: "refuse",
			},
		},
	}
	got.Values = nil // TestValues
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// The host's name is the node's, unless the configuration says otherwise.
func TestNodeDefaultsToHostName(t *testing.T) {
	clearEnv(t)
	host, err := os.Hostname()
	if err != nil {
		t.Skip(err)
	}
	got, err := loadConfig(writeConfig(t, strings.TrimPrefix(smallConfig, "node: n1\n")))
	if err != nil || got.Node != strings.ToLower(host) {
		t.Errorf("node %q, error %v", got.Node, err)
	}
}

func TestWarnings(t *testing.T) {
	clearEnv(t)
	for mac, want := range map[string]string{
		"03:00:00:00:00:01": "outside 01:00:5e",
		"01:00:5e:00:00:05": "224.0.0.x",
	} {
		cfg, err := loadConfig(writeConfig(t, strings.Replace(smallConfig, "eth1}", `eth1, mac: "`+mac+`"}`, 1)))
		if err != nil || len(cfg.Warnings) != 1 || !strings.Contains(cfg.Warnings[0], want) {
			t.Errorf("%s: warnings %q, error %v", mac, cfg.Warnings, err)
		}
	}
}
