package coordinator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"earshot/hashmode"
	"earshot/nft"
	"earshot/raftstore"
)

// modelKernel is a kernel as far as the protocol sees one: it holds a map and
// a lease that runs out by itself, and refuses what the real one refuses.
type modelKernel struct {
	mu      sync.Mutex
	held    uint64
	ok      bool
	rules   nft.Ruleset
	until   time.Time
	broken  error            // Apply fails with it
	cannot  map[string]error // services that it cannot carry, and why
	refused map[string]error // those that it told of when it last looked
	looked  bool             // since Resync
	lacks   string           // an interface that is not there
	deaf    bool             // no interface has carrier
	flows   map[string]map[hashmode.Bucket]nft.FlowCount
	begun   map[string]map[hashmode.Bucket]uint64 // flows ever; nil: not counted
	told    []string                              // shared addresses announced, by service
	cut     []string                              // connections reset, by service and buckets

	judge      func([]nft.HeldPacket)
	verdicts   map[nft.HeldID]nft.Verdict
	askedAgain int
	others     []nft.Stranger
	drift      func()        // what Watch was given
	flowsTake  time.Duration // to count flows
	counts     int           // of flows
}

func (k *modelKernel) Opened([]string) (map[string]hashmode.Set, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := map[string]hashmode.Set{}
	for _, s := range k.rules.Services {
		all[s.Name] = s.Own.Union(s.Inherit)
	}
	return all, nil
}

var errModelOlder = errors.New("the kernel holds a newer map")

func (k *modelKernel) Held() (uint64, bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held, k.ok, nil
}

func (k *modelKernel) Apply(rs nft.Ruleset) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.broken != nil {
		return k.broken
	}
	if k.ok && rs.Index < k.held {
		return errModelOlder
	}
	k.held, k.ok, k.rules = rs.Index, true, rs
	if !k.looked {
		k.looked, k.refused = true, maps.Clone(k.cannot)
	}
	if len(k.refused) > 0 {
		return &nft.PartialError{Services: k.refused}
	}
	return nil
}

func (k *modelKernel) Forget() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Now().Before(k.until) {
		return nft.ErrLeased
	}
	k.held, k.ok = 0, false
	return nil
}

func (k *modelKernel) Lease(until time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.ok {
		return nft.ErrNoTable
	}
	k.until = until
	return nil
}

func (k *modelKernel) Revoke() error { return k.Lease(time.Time{}) }

func (k *modelKernel) LeaseLeft() (time.Duration, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return max(time.Until(k.until), 0), nil
}

func (k *modelKernel) Announce(services []nft.Service) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range services {
		k.told = append(k.told, s.Name)
	}
	return nil
}

func (k *modelKernel) Carrier(iface string) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if iface == k.lacks && iface != "" {
		return false, fmt.Errorf("interface %s: %w", iface, nft.ErrNoInterface)
	}
	return !k.deaf, nil
}

func (k *modelKernel) Watch(ctx context.Context, changed func()) error {
	k.mu.Lock()
	k.drift = changed
	k.mu.Unlock()
	<-ctx.Done()
	return nil
}

func (k *modelKernel) Resync() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.looked = false
}

func (k *modelKernel) Queue() nft.Queue { return nft.QueueExpression }

func (k *modelKernel) Hold(ctx context.Context, ready func(), judge func([]nft.HeldPacket)) error {
	k.mu.Lock()
	k.judge = judge
	k.mu.Unlock()
	ready()
	<-ctx.Done()
	return nil
}

func (k *modelKernel) Decide(verdicts []nft.Decision) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.verdicts == nil {
		k.verdicts = map[nft.HeldID]nft.Verdict{}
	}
	for _, v := range verdicts {
		k.verdicts[v.ID] = v.Verdict
	}
	return nil
}

func (k *modelKernel) Queued() (last, judged nft.HeldID) { return 0, 0 }

func (k *modelKernel) Known(flows []nft.Flow) ([]bool, error) { return make([]bool, len(flows)), nil }

func (k *modelKernel) Disown([]nft.Service, map[string]hashmode.Set) error { return nil }

func (k *modelKernel) AskAgain() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.askedAgain++
	return nil
}

func (k *modelKernel) Conntrack() (nft.ConntrackUse, error) { return nft.ConntrackUse{}, nil }

// service is what the kernel holds of a service.
func (k *modelKernel) service(name string) nft.Service {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.rules.Services {
		if s.Name == name {
			return s
		}
	}
	return nft.Service{}
}

// barrierTime is what a real barrier may take.
const barrierTime = 20 * time.Millisecond

func (k *modelKernel) Barrier() error {
	time.Sleep(barrierTime)
	return nil
}

func (k *modelKernel) Strangers() []nft.Stranger {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.others
}

func (k *modelKernel) Reset(_ []nft.Service, service string, buckets hashmode.Set) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut = append(k.cut, service+" "+buckets.String())
	return buckets.Len(), nil
}

func (k *modelKernel) Flows([]nft.Service) (map[string]map[hashmode.Bucket]nft.FlowCount, error) {
	time.Sleep(k.flowsTake)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.counts++
	return maps.Clone(k.flows), nil
}

func (k *modelKernel) NewFlows([]nft.Service) (map[string]map[hashmode.Bucket]uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.begun), nil
}

// modelStore is a store whose log the test writes.
type modelStore struct {
	mu      sync.Mutex
	history *history
	lead    raftstore.Leadership
	subs    []chan struct{}
	// onPropose is told of each command; nil: nobody is.
	onPropose func(raftstore.Command)
}

func (s *modelStore) State() *raftstore.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.history.state
}

func (s *modelStore) Changed() (<-chan struct{}, func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := make(chan struct{}, 1)
	s.subs = append(s.subs, ch)
	return ch, func() {}
}

// change has something happen to the state, and tells of it.
func (s *modelStore) change(happens func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	happens()
	for _, ch := range s.subs {
		signal(ch)
	}
}

func (s *modelStore) Propose(_ context.Context, c raftstore.Command) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.lead.Self {
		return 0, raftstore.ErrNotLeader
	}
	if s.onPropose != nil {
		s.onPropose(c)
	}
	err := s.history.apply(c)
	for _, ch := range s.subs {
		signal(ch)
	}
	return s.history.state.Index, err
}

func (s *modelStore) Leadership() raftstore.Leadership {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lead
}

// elect has the node lead anew, in another term.
func (s *modelStore) elect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history.term++
	s.lead.Term = s.history.term
}

func (s *modelStore) Term() uint64 { return max(testTerm, s.Leadership().Term) }

func (s *modelStore) LastCommand() uint64 { return s.State().Index }

func (s *modelStore) LastChange() uint64 { return s.State().Index }

func (s *modelStore) Servers() []raftstore.Server {
	return []raftstore.Server{{ID: s.ServerID(), Addr: "a:7440", Voter: true}}
}

func (s *modelStore) Vote(context.Context, raftstore.Server, bool) error { return nil }

func (s *modelStore) Expel(context.Context, string) error { return nil }

func (s *modelStore) ServerID() string { return "id-a" }
func (s *modelStore) Process() int64   { return time.Now().UnixNano() }

func (s *modelStore) Transfer(context.Context) error { return nil }

func (s *modelStore) Resign() {}

func (s *modelStore) Halted() error { return nil }

func (s *modelStore) SetWeight(int) {}

// noPeers is a network without anybody.
type noPeers struct{}

func (noPeers) Call(context.Context, string, string, any, any) error {
	return errors.New("nobody there")
}
