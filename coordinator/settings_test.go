package coordinator

import (
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"earshot/coordinator/event"
	"earshot/raftstore"
)

// reader is node a with a config file that the test writes.
type reader struct {
	*Coordinator
	*history
	next Settings
	err  error
}

func newReader(t *testing.T) *reader {
	timing, err := NewTiming(300*time.Millisecond, 4*time.Millisecond, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{history: newHistory(t)}
	r.join("a", 1)
	r.define("web", 4)
	services := []raftstore.Definition{testDefinition("web", 4)}
	cfg := Config{
		Node: "a", Timing: timing, Services: services,
		Settings: Settings{Values: map[string]string{"lease": "1s", "node": "a", "services.web.hash": "sourceip"}},
		Source:   func() (Settings, error) { return r.next, r.err },
	}
	store := &modelStore{history: r.history, lead: raftstore.Leadership{Term: testTerm, Addr: "a:7440", Self: true}}
	r.Coordinator = New(cfg, store, &modelKernel{}, noPeers{}, slog.New(slog.DiscardHandler))
	r.next = Settings{Values: cfg.Settings.Values, Services: services}
	return r
}

// say gives a key another value in the file.
func (r *reader) say(key, value string) {
	values := map[string]string{}
	for k, v := range r.next.Values {
		values[k] = v
	}
	values[key] = value
	r.next.Values = values
}

func TestReloadNamesWhatNeedsMore(t *testing.T) {
	r := newReader(t)
	l := listen(t, r.Coordinator)
	defer l.Close()
	want := func(changed Reloaded, problem string) {
		t.Helper()
		got, err := r.Reload()
		if err != nil || !reflect.DeepEqual(got, changed) {
			t.Fatalf("got %+v, %v, want %+v", got, err, changed)
		}
		if problems := strings.Join(r.problems(), "\n"); problems != problem {
			t.Fatalf("the status says %q, want %q", problems, problem)
		}
	}
	want(Reloaded{[]string{}, []string{}, []string{}}, "")
	r.say("lease", "2s")
	r.say("services.web.hash", "sourceip-sourceport")
	r.say("services.web.interface", "eth7")
	restart := Reloaded{[]string{"services.web.interface"}, []string{"lease"}, []string{"services.web.hash"}}
	warning := "the config's lease needs a restart of the agent to get into effect"
	want(restart, warning)
	if e := l.Take(); len(e) != 2 || e[1].Type != event.Reload || !strings.HasPrefix(e[1].Reason, "services.web.interface changed; services.web.hash differ from before") {
		t.Errorf("events: %+v", e)
	}
	// What needs a restart is still to come; the rest was told.
	restart.Apply, restart.Changed = []string{}, []string{}
	want(restart, warning)
	// As before: nothing to do.
	r.say("lease", "1s")
	delete(r.next.Values, "services.web.interface")
	want(Reloaded{[]string{"services.web.interface"}, []string{}, []string{}}, "")
}

func TestBadConfigChangesNothing(t *testing.T) {
	r := newReader(t)
	good := r.next
	r.next, r.err = Settings{}, errors.New("/etc/x:3: lease: too short\n/etc/x:4: more")
	if _, err := r.Reload(); !errors.Is(err, r.err) {
		t.Fatalf("got %v", err)
	}
	want := "the config was changed and is refused, so that the one before is in effect: /etc/x:3: lease: too short …"
	if got := r.problems(); len(got) != 1 || got[0] != want {
		t.Fatalf("the status says %q", got)
	}
	if got := r.file.services(); len(got) != 1 {
		t.Fatalf("services are now %+v", got)
	}
	var refusal *RemoteError
	if _, err := r.reload(t.Context(), struct{}{}); !errors.As(err, &refusal) || !refusal.Misuse || refusal.Hint == "" {
		t.Errorf("the operator is told %+v", err)
	}
	if _, err := r.planApply(t.Context(), ApplyRequest{}); !errors.As(err, &refusal) || !refusal.Misuse {
		t.Errorf("apply says %v", err)
	}
	r.next, r.err = good, nil
	if _, err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := r.problems(); len(got) != 0 {
		t.Errorf("mended, and the status says %q", got)
	}
}

func TestEveryLiveKeyIsLive(t *testing.T) {
	for _, part := range liveParts() {
		if part.take == nil || len(part.keys) == 0 {
			t.Errorf("%q: nothing to do", part.keys)
		}
		for _, key := range part.keys {
			if got := effectOf(strings.Replace(key, "*", "my.web", 1)); got != byReload {
				t.Errorf("%s: effect %d", key, got)
			}
		}
	}
	for key, want := range map[string]effect{
		"lease": byRestart, "services.my.web.interface": byReload, "services.my.web.drain": byApply,
	} {
		if got := effectOf(key); got != want {
			t.Errorf("%s: effect %d, want %d", key, got, want)
		}
	}
}

func TestApply(t *testing.T) {
	r := newReader(t)
	r.leads()
	for _, n := range []string{"a", "b"} {
		r.must(raftstore.Command{Join: &raftstore.Join{Name: n, ServerID: "id-" + n, Listen: n + ":7440", Weight: 1, Reads: raftstore.CommandVersion}})
	}
	r.replan()
	r.define("mail", 4)
	plan := func(prune bool) ApplyPlan {
		t.Helper()
		p, err := r.planApply(t.Context(), ApplyRequest{Prune: prune})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := plan(false); len(p.Changes) != 0 || !reflect.DeepEqual(p.Left, []string{"mail"}) {
		t.Fatalf("nothing has changed: %+v", p)
	}
	web := testDefinition("web", 8)
	r.next.Services = []raftstore.Definition{testDefinition("dns1", 2), web}
	p := plan(true)
	want := []ServiceChange{
		{Name: "dns1", Change: ChangeNew}, {Name: "web", Change: ChangeChanged, Moves: true}, {Name: "mail", Change: ChangeRemoved},
	}
	if len(p.Services) != 3 || p.Refused != "" {
		t.Fatalf("%+v", p)
	}
	for i, s := range p.Services {
		if s.Name != want[i].Name || s.Change != want[i].Change {
			t.Errorf("%+v, want %+v", s, want[i])
		}
	}
	if !p.Services[1].Moves || !reflect.DeepEqual(p.Services[1].Keys, []KeyChange{{"buckets", "4", "8"}}) {
		t.Errorf("web: %+v", p.Services[1])
	}
	if got := r.store.State().ServiceNames(); len(got) != 2 {
		t.Fatalf("a plan has changed the services to %q", got)
	}
	if _, err := r.Coordinator.apply(t.Context(), raftstore.Redefine{Changes: p.Changes}); err != nil {
		t.Fatal(err)
	}
	if got := r.store.State().ServiceNames(); !reflect.DeepEqual(got, []string{"dns1", "web"}) || len(r.store.State().Services["web"].Map) != 8 {
		t.Fatalf("services are now %q", got)
	}
	// An answer that was lost makes the agent try again: it is done already.
	if _, err := r.Coordinator.apply(t.Context(), raftstore.Redefine{Changes: p.Changes}); err != nil {
		t.Errorf("the second try: %v", err)
	}
	// Somebody else was quicker with something else.
	r.next.Services = []raftstore.Definition{testDefinition("dns1", 2), testDefinition("web", 16)}
	late := plan(false)
	r.next.Services[1].Buckets = 32
	if _, err := r.Coordinator.apply(t.Context(), raftstore.Redefine{Changes: plan(false).Changes}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Coordinator.apply(t.Context(), raftstore.Redefine{Changes: late.Changes}); !errors.Is(err, raftstore.ErrRedefined) {
		t.Errorf("a plan that is out of date: %v", err)
	}
}

func TestApplySaysWhyNot(t *testing.T) {
	r := newReader(t)
	old := testDefinition("web", 4)
	old.MAC = "01:00:5e:00:00:99"
	r.next.Services = []raftstore.Definition{old}
	p, err := r.planApply(t.Context(), ApplyRequest{})
	if err != nil || !strings.Contains(p.Refused, "mac 01:00:5e:00:02:14 to 01:00:5e:00:00:99") || p.Hint == "" {
		t.Errorf("%+v, %v", p, err)
	}
	// The only member reads format 1, by what the state says of it.
	r.next.Services = []raftstore.Definition{testDefinition("web", 8)}
	p, err = r.planApply(t.Context(), ApplyRequest{})
	if err != nil || !strings.Contains(p.Refused, "a reads commands up to format") || !strings.Contains(p.Hint, "upgrade") {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestConfigProblemsNameTheWayOut(t *testing.T) {
	r := newReader(t)
	r.define("mail", 4)
	r.must(raftstore.Command{Redefine: &raftstore.Redefine{Changes: []raftstore.Redefinition{{Service: "mail", Was: ptr(testDefinition("mail", 4))}}}})
	r.define("gone", 4)
	mine := testDefinition("web", 8)
	mine.Drain = time.Hour
	got := configProblems(r.state, []raftstore.Definition{testDefinition("mail", 4), testDefinition("new", 4), mine})
	want := []string{
		"service mail of this node's config was removed from the cluster; take it out, or bring it back with `earshot apply`",
		"service new of this node's config is not defined in the cluster; `earshot apply` defines it",
		"service web: the cluster has buckets: 4, not 8; drain: 1m0s, not 1h0m0s as in this node's config; mend the file, or change the cluster with `earshot apply`",
		"service gone is not in this node's config; add it, or remove it from the cluster with `earshot apply --prune`",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func ptr[T any](v T) *T { return &v }
