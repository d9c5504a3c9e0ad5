package coordinator

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"earshot/coordinator/event"
	"earshot/raftstore"
)

// heard are the events that a listener got, in short.
func heard(t *testing.T, l *event.Listener) []string {
	t.Helper()
	var all []string
	for _, e := range l.Take() {
		if e.By != "a" || e.Seq == 0 || e.Time.IsZero() {
			t.Errorf("%+v", e)
		}
		all = append(all, strings.TrimSpace(strings.Join([]string{string(e.Type), e.Node, e.Service, e.Buckets}, " ")))
	}
	return all
}

func listen(t *testing.T, c *Coordinator) *event.Listener {
	t.Helper()
	l, err := c.events.Listen()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestEventsOfALifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		h.join("a", 1)
		h.join("b", 1)
		h.define("web", 16)
		h.replan()
		s := run(t, h)
		defer s.stop()
		l := listen(t, s.Coordinator)
		defer l.Close()
		time.Sleep(time.Second)
		// What the log had of the past is told as the state of things, not as news.
		if got, want := heard(t, l), []string{"leader a", "quorum a", "lease a", "warning"}; !slices.Equal(got, want) {
			t.Fatalf("at its start: %q, want %q", got, want)
		}
		time.Sleep(startGrace * 300 * time.Millisecond)
		got := heard(t, l)
		if len(got) < 3 || got[0] != "fail b" || got[1] != "lose b web 8-15" && got[1] != "lose b web 0-7" || !strings.HasPrefix(got[2], "gain a web ") {
			t.Fatalf("after b's death: %q", got)
		}
		if err := s.executeOnce(t.Context(), raftstore.Command{Wish: &raftstore.Wish{Node: "b", Out: true}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got, want := heard(t, l), []string{"out b"}; !slices.Equal(got, want) {
			t.Fatalf("a wish: %q, want %q", got, want)
		}
		s.kernel.mu.Lock()
		s.kernel.deaf = true
		s.kernel.mu.Unlock()
		time.Sleep(2 * compareEvery)
		if got := heard(t, l); !slices.Contains(got, "sick a web") {
			t.Fatalf("without a carrier: %q", got)
		}
		s.store.mu.Lock()
		s.store.lead = raftstore.Leadership{Term: testTerm}
		s.store.mu.Unlock()
		time.Sleep(time.Second)
		if got := heard(t, l); !slices.Contains(got, "no_quorum a") || !slices.Contains(got, "no_lease a") {
			t.Fatalf("without a leader: %q", got)
		}
	})
}

// A look that takes long, since the machine is busy, puts off the next one by
// no more than a lease: who goes and comes back is seen.
func TestAnObserverRestsForALeaseAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		h.join("a", 1)
		s := run(t, h)
		defer s.stop()
		o := s.newObserver()
		o.hub = &event.Hub{}
		looks := 0
		o.repairs = func() uint64 {
			time.Sleep(200 * time.Millisecond)
			looks++
			return uint64(looks)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- o.run(ctx) }()
		time.Sleep(10 * time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		// A look, a lease of rest, and up to a renewal's time until the next.
		if looks < 15 {
			t.Errorf("%d looks in 10 s", looks)
		}
	})
}

// What a starting agent reads from its log is long past.
func TestHistoryIsNoEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		h.join("a", 1)
		s := run(t, h)
		defer s.stop()
		l := listen(t, s.Coordinator)
		defer l.Close()
		lead := s.store.lead
		s.store.mu.Lock()
		s.store.lead = raftstore.Leadership{Term: testTerm}
		s.store.mu.Unlock()
		for range 3 {
			s.store.mu.Lock()
			h.join("b", 1)
			h.define("web", 4)
			s.store.mu.Unlock()
			time.Sleep(time.Second)
		}
		if got := heard(t, l); len(got) != 0 {
			t.Fatalf("before the first lease: %q", got)
		}
		s.store.mu.Lock()
		s.store.lead = lead
		s.store.mu.Unlock()
		time.Sleep(time.Second)
		if got := heard(t, l); slices.Contains(got, "join b") || !slices.Contains(got, "lease a") {
			t.Fatalf("with the first lease: %q", got)
		}
	})
}

// A share is gained when it is taken, not when it is given: the new owner waits
// for the release (rule P13).
func TestGainWaitsForTheRelease(t *testing.T) {
	h := newHistory(t)
	h.join("a", 1)
	h.join("b", 1)
	h.define("web", 4)
	h.must(raftstore.Command{Pin: &raftstore.Pin{Service: "web", Buckets: "0-3", Node: "a"}})
	h.must(raftstore.Command{Pin: &raftstore.Pin{Service: "web", Buckets: "0-1", Node: "b"}})
	given := know(h.state, levels{})
	if share := given.services["web"].Shares["b"]; !share.Open.Empty() || !given.waiting {
		t.Errorf("b opens %s before a's release", share.Open)
	}
	taken := know(h.state, released("a", int(h.state.Index)))
	if share := taken.services["web"].Shares["b"]; share.Open.String() != "0-1" || taken.waiting {
		t.Errorf("b opens %q after a's release, waiting %v", share.Open, taken.waiting)
	}
	if share := taken.services["web"].Shares["a"]; share.Open.String() != "2-3" || share.Drain.String() != "0-1" {
		t.Errorf("a opens %q and drains %q", share.Open, share.Drain)
	}
}

// The stream is lines of JSON, from the moment that its headers are there.
func TestEventStream(t *testing.T) {
	timing, err := NewTiming(300*time.Millisecond, 4*time.Millisecond, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	c := New(Config{Node: "a", Timing: timing}, &modelStore{history: newHistory(t)}, &modelKernel{}, noPeers{}, slog.New(slog.DiscardHandler))
	server := httptest.NewServer(c.controlAPI())
	defer server.Close()
	resp, err := http.Get(server.URL + "/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	c.events.Tell(time.Unix(1, 0), []event.Event{{Type: event.Fail, By: "a", Node: "b"}, {Type: event.Leader, By: "a", Node: "a"}})
	dec := json.NewDecoder(resp.Body)
	for i, want := range []event.Type{event.Fail, event.Leader} {
		var e event.Event
		if err := dec.Decode(&e); err != nil || e.Type != want || e.Seq != uint64(i+1) {
			t.Fatalf("got %+v, %v", e, err)
		}
	}
}
