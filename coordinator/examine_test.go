package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"earshot/coordinator/doctor"
	"earshot/nft"
	"earshot/raftstore"
)

// modelWire is a wire on which all ears hear whoever sends while they listen.
type modelWire struct {
	mu    sync.Mutex
	heard map[string]map[uint64][]string // node to nonce to senders
	hold  chan struct{}                  // closed when the window is over; nil: at once
}

// modelEars are one node's ears.
type modelEars struct {
	node       string
	wire       *modelWire
	interfaces []string // that Run was given
	findings   []nft.Finding
}

func (e *modelEars) Run(ctx context.Context, interfaces []string) error {
	e.interfaces = interfaces
	<-ctx.Done()
	return nil
}

func (e *modelEars) Hear(_ context.Context, q nft.Question) []nft.Heard {
	if e.wire.hold != nil {
		<-e.wire.hold
	}
	e.wire.mu.Lock()
	defer e.wire.mu.Unlock()
	e.wire.heard[q.Node] = map[uint64][]string{q.Nonce: nil}
	var heard []nft.Heard
	for _, s := range q.Services {
		heard = append(heard, nft.Heard{Service: s.Name, Interface: s.Interface, Address: s.Address, MAC: s.MAC.String()})
	}
	return heard
}

func (e *modelEars) Probe([]nft.Service) []nft.Finding { return e.findings }

// modelPeers reaches other coordinators by their address, through the peers'
// API and JSON.
type modelPeers map[string]*Coordinator

func (p modelPeers) Call(ctx context.Context, addr, path string, request, answer any) error {
	c := p[addr]
	if c == nil {
		return errors.New("connection refused")
	}
	if path != pathHear {
		return errors.New("not asked for")
	}
	data, err := json.Marshal(request)
	if err != nil {
		return err
	}
	var r hearRequest
	if err := json.Unmarshal(data, &r); err != nil {
		return err
	}
	report, err := c.hear(ctx, r)
	if err != nil {
		return err
	}
	if data, err = json.Marshal(report); err != nil {
		return err
	}
	return json.Unmarshal(data, answer)
}

// examined are the nodes a, b and c with ears, w a witness, f that failed and
// d that does not answer; a leads.
func examined(t *testing.T, wire *modelWire) (map[string]*Coordinator, *modelEars) {
	h := newHistory(t)
	for _, name := range []string{"a", "b", "d", "f"} {
		h.join(name, 1)
	}
	h.must(raftstore.Command{Join: &raftstore.Join{Name: "w", ServerID: "id-w", Listen: "w:7440", Weight: 1, Witness: true, Reads: 2}})
	h.define("web", 16)
	h.replan()
	h.must(raftstore.Command{Death: &raftstore.Death{Node: "f", Term: testTerm, Epoch: h.state.Epoch, Moves: deathPlan(h.state, "f")}})
	peers := modelPeers{}
	all := map[string]*Coordinator{}
	timing, err := NewTiming(300*time.Millisecond, 4*time.Millisecond, 0)
	if err != nil {
		t.Fatal(err)
	}
	var earsOfB *modelEars
	for _, name := range []string{"a", "b"} {
		ears := &modelEars{node: name, wire: wire}
		if name == "b" {
			earsOfB = ears
		}
		store := &modelStore{history: h, lead: raftstore.Leadership{Term: testTerm, Addr: "a:7440", Self: name == "a"}}
		all[name] = New(Config{Node: name, Timing: timing, Ears: ears, Services: []raftstore.Definition{testDefinition("web", 16), testDefinition("tls", 16)}},
			store, &modelKernel{}, peers, slog.New(slog.DiscardHandler))
		peers[name+":7440"] = all[name]
	}
	return all, earsOfB
}

// All nodes that should answer take part with one nonce, at the same time; who
// does not answer is named, and who should not is left out.
func TestExamine(t *testing.T) {
	wire := &modelWire{heard: map[string]map[uint64][]string{}}
	all, b := examined(t, wire)
	b.findings = []nft.Finding{{Severity: nft.OK, What: "fine"}, {Severity: nft.Warn, What: "rp_filter is 1", Mend: "sysctl", Err: errors.New("why")}}
	e, err := all["a"].examine(t.Context(), struct{}{})
	if err != nil || e.Node != "a" || len(e.Reports) != 3 {
		t.Fatalf("%+v, %v", e, err)
	}
	slices.SortFunc(e.Reports, func(x, y doctor.Report) int { return strings.Compare(x.Node, y.Node) })
	for i, want := range []string{"a", "b", "d"} {
		r := e.Reports[i]
		switch {
		case r.Node != want:
			t.Errorf("report of %s, want %s", r.Node, want)
		case want == "d" && !strings.Contains(r.Error, "connection refused"):
			t.Errorf("%+v", r)
		case want != "d" && (r.Error != "" || len(r.Heard) != 1 || r.Heard[0].Service != "web" || r.Heard[0].MAC != "01:00:5e:00:02:14"):
			t.Errorf("%+v", r)
		}
	}
	if want := []doctor.Finding{{Severity: nft.Warn, What: "rp_filter is 1: why", Mend: "sysctl"}}; !slices.Equal(e.Reports[1].Findings, want) {
		t.Errorf("b found %+v, want %+v", e.Reports[1].Findings, want)
	}
	for nonce := range wire.heard["a"] {
		if _, same := wire.heard["b"][nonce]; !same {
			t.Errorf("nonces differ: %v", wire.heard)
		}
	}
}

// A node does not let itself be kept busy with listening, by whoever has the
// cluster key or a bug.
func TestHearIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := &modelWire{heard: map[string]map[uint64][]string{}, hold: make(chan struct{})}
		all, _ := examined(t, wire)
		hear := func() error {
			_, err := all["b"].hear(t.Context(), hearRequest{Nonce: 1, Window: time.Second})
			return err
		}
		var hearing sync.WaitGroup
		for range mostHearing {
			hearing.Go(func() {
				if err := hear(); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if err := hear(); !errors.Is(err, errBusy) {
			t.Errorf("one too many: %v", err)
		}
		close(wire.hold)
		hearing.Wait()
		if err := hear(); err != nil {
			t.Errorf("afterwards: %v", err)
		}
		if _, err := all["b"].hear(t.Context(), hearRequest{Nonce: 1}); err == nil {
			t.Error("no window taken")
		}
	})
}

// The ears stay open on each interface of the config, once, while the agent
// runs.
func TestEarsListenOnTheServicesInterfaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, b := examined(t, &modelWire{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- all["b"].listenQueriers(ctx) }()
		synctest.Wait()
		if !slices.Equal(b.interfaces, []string{"eth1"}) {
			t.Errorf("listens on %v", b.interfaces)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		all["b"].cfg.Ears = nil
		if _, err := all["b"].hear(t.Context(), hearRequest{Nonce: 1, Window: time.Second}); !errors.Is(err, errDeaf) {
			t.Errorf("without ears: %v", err)
		}
	})
}
