package main

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"earshot/coordinator/health"
)

// withCheck is the smallest configuration with a check.
func withCheck(check string) string {
	return strings.Replace(smallConfig, "eth1}", "eth1, check: "+check+"}", 1)
}

// Every key of a check arrives.
func TestChecks(t *testing.T) {
	clearEnv(t)
	for text, want := range map[string][]health.Spec{
		// The one of the contract.
		`{http: "http://127.0.0.1/alive.html", expect: foobar3000, interval: 1s, timeout: 1s, fall: 2, rise: 2}`: {{
			Kind: health.HTTP, Target: "http://127.0.0.1/alive.html", Expect: "foobar3000",
			Interval: time.Second, Timeout: time.Second, Fall: 2, Rise: 2,
		}},
		`{https: "https://localhost/", method: HEAD, host: www.example.com, status: 200-399, verify: false, redirects: true, grace: 30s}`: {{
			Kind: health.HTTPS, Target: "https://localhost/", Method: "HEAD", Host: "www.example.com", Status: "200-399",
			Unproved: true, Redirects: true, Grace: 30 * time.Second,
		}},
		`{http: "http://127.0.0.1/", status: 204}`: {{Kind: health.HTTP, Target: "http://127.0.0.1/", Status: "204"}},
		`[{tcp: "127.0.0.1:80"}, {file: /run/alive}]`: {
			{Kind: health.TCP, Target: "127.0.0.1:80"}, {Kind: health.File, Target: "/run/alive"},
		},
		`{dns: "127.0.0.1", name: www.example.com, type: AAAA, transport: tcp}`: {{
			Kind: health.DNS, Target: "127.0.0.1", Name: "www.example.com", Type: "AAAA", Transport: "tcp",
		}},
		`{banner: smtp, address: "127.0.0.1:2525"}`:   {{Kind: health.Banner, Target: "smtp", Address: "127.0.0.1:2525"}},
		`{exec: /usr/lib/check --all, status: "0,2"}`: {{Kind: health.Exec, Target: "/usr/lib/check --all", Status: "0,2"}},
		`{exec: [/usr/lib/check, "a b"]}`:             {{Kind: health.Exec, Command: []string{"/usr/lib/check", "a b"}}},
		`{process: nginx}`:                            {{Kind: health.Process, Target: "nginx"}},
	} {
		got, err := loadConfig(writeConfig(t, withCheck(text)))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if !reflect.DeepEqual(got.Checks["web"], want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", text, got.Checks["web"], want)
		}
	}
}

// A check from the environment stands in place of the file's.
func TestCheckFromTheEnvironment(t *testing.T) {
	clearEnv(t)
	t.Setenv("EARSHOT_SERVICES_WEB_CHECK", `{http: "http://127.0.0.1/", expect: fine}`)
	want := map[string][]health.Spec{"web": {{Kind: health.HTTP, Target: "http://127.0.0.1/", Expect: "fine"}}}
	for _, text := range []string{smallConfig, withCheck("{http: \"http://127.0.0.1:8080/\", interval: 2s}")} {
		got, err := loadConfig(writeConfig(t, text))
		if err != nil || !reflect.DeepEqual(got.Checks, want) {
			t.Errorf("%+v, %v", got.Checks, err)
		}
	}
}

// The lighter check is apart from the other, in the file and the environment.
func TestFallbackCheck(t *testing.T) {
	clearEnv(t)
	file := writeConfig(t, withCheck(`{http: "http://127.0.0.1/"}, fallback_check: {tcp: "127.0.0.1:80"}`))
	check := map[string][]health.Spec{"web": {{Kind: health.HTTP, Target: "http://127.0.0.1/"}}}
	for _, want := range []string{"127.0.0.1:80", "127.0.0.1:8080"} {
		got, err := loadConfig(file)
		lighter := map[string][]health.Spec{"web": {{Kind: health.TCP, Target: want}}}
		if err != nil || !reflect.DeepEqual(got.Checks, check) || !reflect.DeepEqual(got.FallbackChecks, lighter) {
			t.Errorf("%+v, %+v, %v", got.Checks, got.FallbackChecks, err)
		}
		t.Setenv("EARSHOT_SERVICES_WEB_FALLBACK_CHECK", `{tcp: "127.0.0.1:8080"}`)
	}
}
