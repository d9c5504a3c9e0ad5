package coordinator

import (
	"context"
	"sync"
	"time"

	"earshot/hashmode"
	"earshot/nft"
)

// bystander is the kernel of a witness: it holds maps and leases as far as the
// protocol asks for them, and lets nothing through. What is in the machine's
// kernel is left alone.
type bystander struct {
	mu    sync.Mutex
	held  uint64
	ok    bool
	until time.Time
}

// NewBystander returns the kernel of a node that answers nothing.
func NewBystander() Kernel { return &bystander{} }

// Held implements Kernel.
func (b *bystander) Held() (uint64, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held, b.ok, nil
}

// Opened implements Kernel.
func (b *bystander) Opened([]string) (map[string]hashmode.Set, error) {
	return map[string]hashmode.Set{}, nil
}

// Apply implements Kernel.
func (b *bystander) Apply(rs nft.Ruleset) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held, b.ok = rs.Index, true
	return nil
}

// Forget implements Kernel.
func (b *bystander) Forget() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held, b.ok = 0, false
	return nil
}

// Lease implements Kernel.
func (b *bystander) Lease(until time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.until = until
	return nil
}

// Revoke implements Kernel.
func (b *bystander) Revoke() error { return b.Lease(time.Time{}) }

// LeaseLeft implements Kernel.
func (b *bystander) LeaseLeft() (time.Duration, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(time.Until(b.until), 0), nil
}

// Announce implements Kernel: the addresses are the others'.
func (b *bystander) Announce([]nft.Service) error { return nil }

// Carrier implements Kernel: a witness needs no service's interface.
func (b *bystander) Carrier(string) (bool, error) { return true, nil }

// Watch implements Kernel: nothing here can be changed by others.
func (b *bystander) Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}

// Resync implements Kernel.
func (b *bystander) Resync() {}

// Queue implements Kernel: nothing has to be held here.
func (b *bystander) Queue() nft.Queue { return nft.QueueExpression }

// Hold implements Kernel.
func (b *bystander) Hold(ctx context.Context, ready func(), _ func([]nft.HeldPacket)) error {
	ready()
	<-ctx.Done()
	return nil
}

// Decide implements Kernel.
func (b *bystander) Decide([]nft.Decision) error { return nil }

// Queued implements Kernel.
func (b *bystander) Queued() (last, judged nft.HeldID) { return 0, 0 }

// Known implements Kernel: a witness has no flows.
func (b *bystander) Known(flows []nft.Flow) ([]bool, error) { return make([]bool, len(flows)), nil }

// Disown implements Kernel.
func (b *bystander) Disown([]nft.Service, map[string]hashmode.Set) error { return nil }

// AskAgain implements Kernel.
func (b *bystander) AskAgain() error { return nil }

// Conntrack implements Kernel.
func (b *bystander) Conntrack() (nft.ConntrackUse, error) { return nft.ConntrackUse{}, nil }

// Barrier implements Kernel: nothing passes here.
func (b *bystander) Barrier() error { return nil }

// Strangers implements Kernel: the addresses are the others'.
func (b *bystander) Strangers() []nft.Stranger { return nil }

// Reset implements Kernel.
func (b *bystander) Reset([]nft.Service, string, hashmode.Set) (int, error) { return 0, nil }

// Flows implements Kernel.
func (b *bystander) Flows([]nft.Service) (map[string]map[hashmode.Bucket]nft.FlowCount, error) {
	return map[string]map[hashmode.Bucket]nft.FlowCount{}, nil
}

// NewFlows implements Kernel.
func (b *bystander) NewFlows([]nft.Service) (map[string]map[hashmode.Bucket]uint64, error) {
	return nil, nil
}
