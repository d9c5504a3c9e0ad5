package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"earshot/coordinator"
)

// The stories of testdata/*.txt, each with an agent of its own kind.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		UpdateScripts:       updating(),
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv(envSocket, filepath.Join(env.WorkDir, "agent.sock"))
			env.Setenv(envConfig, "")
			env.Setenv("KERNEL", "empty")
			example, err := os.ReadFile("../../docs/earshot.example.yaml")
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(env.WorkDir, "example.yaml"), example, 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"agent":  startAgent,
			"member": makeMember,
			"exits":  exits,
		},
	})
}

// exits runs a command that must fail with the status: exits 2 earshot frob.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	status, ok := err.(interface{ ExitCode() int })
	if !ok || fmt.Sprint(status.ExitCode()) != args[0] {
		ts.Fatalf("%v: want exit status %s, got %v", args[1:], args[0], err)
	}
}

// startAgent puts an agent at the script's socket that answers from files of
// the script: agent STATUS.json... gives the next status at each request, the
// last one for ever; with refuse.json it refuses all else. What it was asked
// to do goes to the file requests.
func startAgent(ts *testscript.TestScript, _ bool, args []string) {
	a := &scriptAgent{dir: ts.Getenv("WORK"), statuses: args}
	listener, err := net.Listen("unix", ts.Getenv(envSocket))
	ts.Check(err)
	server := &http.Server{Handler: a.handler()}
	go func() { _ = server.Serve(listener) }()
	ts.Defer(func() { server.Close() })
}

// makeMember leaves the data directory of n1, a stopped node that was a member
// beside n2 and n3: member DIR.
func makeMember(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(leaveMember(ts.MkAbs(args[0])))
}

type scriptAgent struct {
	dir string

	mu       sync.Mutex // guards statuses and the file requests
	statuses []string
}

func (a *scriptAgent) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.file(w, a.statuses[0])
		if len(a.statuses) > 1 {
			a.statuses = a.statuses[1:]
		}
	})
	mux.HandleFunc("GET /v1/which", func(w http.ResponseWriter, r *http.Request) {
		if a.note(w, "which "+r.URL.RawQuery) {
			a.file(w, "which.json")
		}
	})
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, _ *http.Request) { a.file(w, "events.json") })
	for name, path := range map[string]string{"reload": "/v1/reload", "plan": "/v1/apply/plan", "apply": "/v1/apply"} {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if !a.note(w, name+" "+string(body)) {
				return
			}
			if name == "apply" {
				_, _ = w.Write([]byte("{}"))
				return
			}
			a.file(w, name+".json")
		})
	}
	mux.HandleFunc("POST /v1/wish", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var wish coordinator.WishRequest
		_ = json.Unmarshal(body, &wish)
		if wish.Node == "" {
			wish.Node = "n1"
		}
		if a.note(w, "wish "+string(body)) {
			_ = json.NewEncoder(w).Encode(map[string]string{"node": wish.Node})
		}
	})
	mux.HandleFunc("POST /v1/move", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if a.note(w, "move "+string(body)) {
			_, _ = w.Write([]byte("{}"))
		}
	})
	mux.HandleFunc("POST /v1/examine", func(w http.ResponseWriter, _ *http.Request) {
		if a.note(w, "examine") {
			a.file(w, "examine.json")
		}
	})
	mux.HandleFunc("POST /v1/forget", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if a.note(w, "forget "+string(body)) {
			_, _ = w.Write([]byte("{}"))
		}
	})
	return mux
}

// note keeps a request, and refuses it if that is what the script wants.
func (a *scriptAgent) note(w http.ResponseWriter, request string) (welcome bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	requests := filepath.Join(a.dir, "requests")
	before, _ := os.ReadFile(requests)
	_ = os.WriteFile(requests, append(before, strings.TrimSpace(request)+"\n"...), 0o600)
	refusal, err := os.ReadFile(filepath.Join(a.dir, "refuse.json"))
	if err != nil {
		return true
	}
	w.WriteHeader(http.StatusConflict)
	_, _ = w.Write(refusal)
	return false
}

func (a *scriptAgent) file(w http.ResponseWriter, name string) {
	data, err := os.ReadFile(filepath.Join(a.dir, name))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(data)
}
