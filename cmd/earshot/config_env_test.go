package main

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"earshot/coordinator"
	"earshot/coordinator/event"
	"earshot/coordinator/hook"
)

func mustPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// Every key can come from the environment, and the environment wins.
func TestEnvironment(t *testing.T) {
	clearEnv(t)
	for name, value := range map[string]string{
		"NODE": "n9", "LISTEN": "eth3", "PEERS": "10.0.0.1, 10.0.0.2:99", "KEY_FILE": "/k", "DATA_DIR": "/d", "SOCKET": "/s",
		"LEASE": "1s", "RESTART_LEASE": "3s", "ROLE": "node", "WEIGHT": "7", "HOOK_TIMEOUT": "1s", "HOOKS_ON_GAIN": "true 'a b'",
		"MATURE": "7s", "ROUND": "2s", "MOVES_PER_ROUND": "9", "SERVICES_WEB_PREFER": "3", "SERVICES_WEB_BALANCE": "load",
		"SERVICES_WEB_ADDRESS": "10.0.0.9/24", "SERVICES_WEB_INTERFACE": "eth7", "SERVICES_WEB_HASH": "sourceip-sourceport",
		"SERVICES_WEB_PORTS": "tcp/80,udp/80", "SERVICES_WEB_BUCKETS": "16", "SERVICES_WEB_MAC": "01:00:5e:01:01:01",
		"SERVICES_WEB_MAC_MODE": "multicast", "SERVICES_WEB_DRAIN": "5s", "SERVICES_WEB_ON_FAIL": "drain",
		"SERVICES_WEB_QUORUM_LOSS": "fence",
	} {
		t.Setenv(envPrefix+name, value)
	}
	got, err := loadConfig(writeConfig(t, smallConfig))
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.File = got.File
	want.Node, want.Listen, want.Peers = "n9", "eth3:7440", []string{"10.0.0.1:7440", "10.0.0.2:99"}
	want.KeyFile, want.DataDir, want.Socket = "/k", "/d", "/s"
	want.Lease, want.RestartLease, want.Weight = time.Second, 3*time.Second, weight{Fixed: 7}
	want.Hooks = hook.Config{Timeout: time.Second, Commands: map[event.Type][]string{event.Gain: {"true", "a b"}}}
	want.Damping = coordinator.Damping{Mature: 7 * time.Second, Round: 2 * time.Second, MovesPerRound: 9}
	want.Prefer = map[string]string{"web": "3"}
	web := &want.Services[0]
	web.Address, web.Interface, web.Hash = mustPrefix("10.0.0.9/24"), "eth7", "sourceip-sourceport"
	web.Ports, web.Buckets, web.MAC, web.Drain = []string{"tcp/80", "udp/80"}, 16, "01:00:5e:01:01:01", 5*time.Second
	got.Values = nil // TestValues
	web.Balance = "load"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// A service's name is found whatever of -, . and _ it has; one that the file
// does not have is new.
func TestEnvironmentNamesServices(t *testing.T) {
	clearEnv(t)
	t.Setenv("EARSHOT_SERVICES_MY_WEB_1_BUCKETS", "5")
	t.Setenv("EARSHOT_SERVICES_DNS_ADDRESS", "10.0.0.53/24")
	t.Setenv("EARSHOT_SERVICES_DNS_INTERFACE", "eth1")
	got, err := loadConfig(writeConfig(t, strings.Replace(smallConfig, "web:", "my-web.1:", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Services) != 2 || got.Services[0].Name != "dns" || got.Services[1].Name != "my-web.1" || got.Services[1].Buckets != 5 {
		t.Errorf("got %+v", got.Services)
	}
}

func TestBadEnvironment(t *testing.T) {
	tests := []struct{ name, value, want string }{
		{"EARSHOT_LEASE", "20ms", "environment EARSHOT_LEASE: lease: 20ms is too short: "},
		{"EARSHOT_LEAES", "1s", "environment: EARSHOT_LEAES: names no key"},
		{"EARSHOT_SERVICES", "web", "environment: EARSHOT_SERVICES: names no key of a service"},
		{"EARSHOT_HOOKS_ON_GANE", "/bin/true", "environment: EARSHOT_HOOKS_ON_GANE: names no hook"},
		{"EARSHOT_HOOKS_ON_GAIN", "a | b", "environment EARSHOT_HOOKS_ON_GAIN: hooks.on_gain: '|' is for a shell"},
		{"EARSHOT_SERVICES_WEB_COLOUR", "blue", "environment: EARSHOT_SERVICES_WEB_COLOUR: names no key of a service"},
		{"EARSHOT_SERVICES_WEB_BUCKETS", "many", "environment EARSHOT_SERVICES_WEB_BUCKETS: services.web.buckets: many is out of range"},
		{"EARSHOT_SERVICES_WEB_CHECK_HTTP", "http://x", "environment: EARSHOT_SERVICES_WEB_CHECK_HTTP: names no key of a service"},
		{"EARSHOT_SERVICES_WEB_CHECK", "{http: 127.0.0.1}", `environment EARSHOT_SERVICES_WEB_CHECK: services.web.check.http: "127.0.0.1" is no URL`},
		{"EARSHOT_SERVICES_WEB_CHECK", "{http:", "environment EARSHOT_SERVICES_WEB_CHECK: services.web.check: is no YAML"},
		{"EARSHOT_SERVICES_1WEB_HASH", "sourceip", `services.1web: name "1web" must begin with a-z`},
		{"EARSHOT_SERVICES_NEW_HASH", "sourceip", "services.new.address: missing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			clearEnv(t)
			t.Setenv(tt.name, tt.value)
			_, err := loadConfig(writeConfig(t, smallConfig))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v\nwant %s", err, tt.want)
			}
		})
	}
}

// A second agent's or a client's variables are no mistakes.
func TestEnvironmentOfTheCommandLine(t *testing.T) {
	clearEnv(t)
	t.Setenv(envConfig, "/some/file")
	t.Setenv(envSocket, "/some/socket")
	if cfg, err := loadConfig(writeConfig(t, smallConfig)); err != nil || cfg.Socket != "/some/socket" {
		t.Errorf("socket %q, error %v", cfg.Socket, err)
	}
}

// A variable that begins like ours and is another program's does no harm.
func TestStrangeVariable(t *testing.T) {
	clearEnv(t)
	t.Setenv("EARSHOT_TEST_DATABASE", "x")
	cfg, err := loadConfig(writeConfig(t, smallConfig))
	if err != nil || len(cfg.Warnings) != 1 || cfg.Warnings[0] != "environment: EARSHOT_TEST_DATABASE names no key and is ignored" {
		t.Errorf("warnings %q, error %v", cfg.Warnings, err)
	}
}
