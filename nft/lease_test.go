package nft

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"earshot/hashmode"
	"earshot/nft/nfttest"
)

func all16() hashmode.Set { return buckets(0, 15) }

func ownAll() Service { return web(all16(), hashmode.Set{}, hashmode.Set{}) }

func (w *world) left(p *Plane) time.Duration {
	w.t.Helper()
	left, err := p.LeaseLeft()
	must(w.t, err)
	return left
}

// A verdict that comes when the kernel's timer is over would let in what is not
// answered any more.
func TestVerdictsGoByTheKernelsLease(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	must(t, p.Apply(Ruleset{Index: 1, Services: []Service{ownAll()}}))
	until := time.Now().Add(time.Minute)
	must(t, p.Lease(until))
	if ends := *p.holds.until.Load(); until.Sub(ends) < LeaseTolerance {
		t.Errorf("verdicts let in until %v before the lease's end, want %v and more", until.Sub(ends), LeaseTolerance)
	}
}

// A process may stop anywhere in a renewal (rule P8): neither the lease that
// it installs afterwards nor the one that stood may outlast its time.
func TestLeaseDoesNotGrowInAPause(t *testing.T) {
	const length, stop = 100 * time.Millisecond, 150 * time.Millisecond
	for point, want := range map[leasePoint]error{leaseComputed: ErrLate, leaseStaged: ErrLate, leaseChecked: nil} {
		t.Run(fmt.Sprint(point), func(t *testing.T) {
			w := newWorld(t)
			p := w.plane()
			must(t, p.Apply(Ruleset{Index: 1, Services: []Service{ownAll()}}))
			for range 2 { // both slots have been in use
				must(t, p.Lease(time.Now().Add(length)))
			}
			p.lease.pause = func(at leasePoint) {
				if at == point {
					<-time.After(stop)
				}
			}
			if err := p.Lease(time.Now().Add(length)); !errors.Is(err, want) {
				t.Fatalf("error %v, want %v", err, want)
			}
			if left := w.left(p); left != 0 {
				t.Fatalf("%v of a lease left after its time", left)
			}
		})
	}
}

// A short stop costs a second try, and that one is measured anew.
func TestLeaseTriesAgainAfterAShortPause(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	must(t, p.Apply(Ruleset{Index: 1, Services: []Service{ownAll()}}))
	stops := 0
	p.lease.pause = func(at leasePoint) {
		if at == leaseComputed && stops < 2 {
			stops++
			<-time.After(50 * time.Millisecond)
		}
	}
	until := time.Now().Add(time.Second)
	must(t, p.Lease(until))
	if left := w.left(p); left == 0 || left > time.Until(until)+5*time.Millisecond {
		t.Fatalf("%v left, want at most %v", left, time.Until(until))
	}
	if stops != 2 {
		t.Fatalf("%d stops", stops)
	}
}

func TestLeaseIsReplacedByAShorterOne(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	must(t, p.Apply(Ruleset{Index: 1, Services: []Service{ownAll()}}))
	must(t, p.Lease(time.Now().Add(10*time.Second)))
	must(t, p.Lease(time.Now().Add(100*time.Millisecond)))
	if left := w.left(p); left == 0 || left > 100*time.Millisecond {
		t.Fatalf("%v left", left)
	}
	eventually(t, "expiry", func() bool { return w.left(p) == 0 })
}

func TestLateLeaseIsRefusedAndRevokedLeaseIsGone(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	if err := p.Lease(time.Now().Add(time.Second)); !errors.Is(err, ErrNoTable) {
		t.Fatalf("lease without rules: %v", err)
	}
	must(t, p.Revoke())
	must(t, p.Apply(Ruleset{Index: 1, Services: []Service{ownAll()}}))
	if err := p.Lease(time.Now()); !errors.Is(err, ErrLate) {
		t.Fatalf("lease of the past: %v", err)
	}
	must(t, p.Lease(time.Now().Add(time.Hour)))
	must(t, p.Revoke())
	if left := w.left(p); left != 0 {
		t.Fatalf("%v left after Revoke", left)
	}
	must(t, p.Lease(time.Now().Add(time.Hour)))
	if w.left(p) == 0 {
		t.Fatal("no lease after Revoke and Lease")
	}
}

// Without a lease the node is silent: inwards, in ARP, and outwards (P18).
func TestExpiryIsSilence(t *testing.T) { eachIP(t, expiryIsSilence) }

func expiryIsSilence(t *testing.T, v6 bool) {
	service := webOf(v6, all16(), hashmode.Set{}, hashmode.Set{})
	w := newWorld(t)
	p := w.plane()
	o := w.observer()
	must(t, p.Apply(Ruleset{Index: 1, Services: []Service{service}}))
	wire := w.listen(v6)
	client := clientOfIP(v6, service.Hash, 3, 0)
	loud := func() (answers []string) {
		o.passed(nfttest.Echo(client, service.Address, 1, 1))
		w.ask(service)
		w.speak(v6)
		return wire.answers()
	}
	if got := loud(); len(got) != 0 {
		t.Fatalf("answers without a lease: %v", got)
	}
	must(t, p.Lease(time.Now().Add(10*time.Second)))
	if got := fmt.Sprint(loud()); got != "[echo mac own]" {
		t.Fatalf("answers under a lease: %v", got)
	}
	must(t, p.Lease(time.Now().Add(20*time.Millisecond)))
	eventually(t, "expiry", func() bool { return w.left(p) == 0 })
	if got := loud(); len(got) != 0 {
		t.Fatalf("answers after the lease: %v", got)
	}
	if o.passed(tcp(client, nfttest.SYN)) != 0 {
		t.Fatal("a SYN passed without a lease")
	}
	// At ingress, fragments pass on every node.
	if o.passed(packets(client, client)["fragments"]) != 0 {
		t.Fatal("fragments passed without a lease")
	}
}

// Measured from outside: a lease of 200 ms lets packets through that long.
func TestLeaseLetsPacketsThroughNoLonger(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	o := w.observer()
	must(t, p.Apply(Ruleset{Index: 1, Services: []Service{ownAll()}}))
	client := clientOf(ownAll().Hash, 3, 0)
	for range 3 {
		until := time.Now().Add(200 * time.Millisecond)
		must(t, p.Lease(until))
		// Sent after begun: when the last was dropped, the lease had ended.
		begun := time.Now()
		for o.passed(udp(client, 4711)) == 1 {
			if over := begun.Sub(until); over > 0 {
				t.Fatalf("a packet passed %v after the lease's end", over)
			}
			begun = time.Now()
		}
		if early := time.Until(until); early > 30*time.Millisecond {
			t.Errorf("the lease ended %v early", early)
		}
	}
}

func BenchmarkLease(b *testing.B) {
	w := benchWorld(b)
	for b.Loop() {
		must(b, w.Lease(time.Now().Add(time.Minute)))
	}
}

func BenchmarkApply(b *testing.B) {
	p := newWorld(b).plane()
	index := uint64(0)
	must(b, p.Apply(Ruleset{Services: []Service{big(0, 511)}}))
	for b.Loop() {
		index++
		first := hashmode.Bucket(index%2) * 512
		must(b, p.Apply(Ruleset{Index: index, Services: []Service{big(first, first+511)}}))
	}
}

func BenchmarkApplyUnchanged(b *testing.B) {
	p := benchWorld(b)
	for b.Loop() {
		must(b, p.Apply(Ruleset{Index: 1, Services: []Service{big(0, 511)}}))
	}
}

func BenchmarkApplyAfterResync(b *testing.B) {
	p := benchWorld(b)
	for b.Loop() {
		p.Resync()
		must(b, p.Apply(Ruleset{Index: 1, Services: []Service{big(0, 511)}}))
	}
}

// Leases are renewed while another goroutine applies map after map.
func TestLeaseBesideApply(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	must(t, p.Apply(Ruleset{Index: 1, Services: []Service{big(0, 511)}}))
	stop := make(chan struct{})
	var applying sync.WaitGroup
	applying.Go(func() {
		for index := uint64(2); ; index++ {
			select {
			case <-stop:
				return
			default:
			}
			first := hashmode.Bucket(index%2) * 512
			if err := p.Apply(Ruleset{Index: index, Services: []Service{big(first, first+511)}}); err != nil {
				t.Error(err)
			}
		}
	})
	defer applying.Wait()
	defer close(stop)
	var longest time.Duration
	for range 200 {
		start := time.Now()
		must(t, p.Lease(start.Add(time.Second)))
		longest = max(longest, time.Since(start))
	}
	t.Logf("longest renewal %v", longest)
}

// An agent of a new cluster may write an older map, but not under a lease.
func TestForget(t *testing.T) {
	w := newWorld(t)
	p := w.plane()
	must(t, p.Forget())
	leased(t, p, 9, ownAll())
	if err := p.Forget(); !errors.Is(err, ErrLeased) {
		t.Fatalf("error %v", err)
	}
	must(t, p.Revoke())
	must(t, p.Forget())
	must(t, p.Apply(Ruleset{Index: 2, Services: []Service{ownAll()}}))
	if index, ok, err := p.Held(); index != 2 || !ok || err != nil {
		t.Fatalf("held %d, %v, %v", index, ok, err)
	}
}
