package nft

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
)

// A Stranger is a host that says that it has a shared address, and names
// another MAC for it than the cluster's.
type Stranger struct {
	Address   netip.Addr
	Interface string
	MAC       net.HardwareAddr
}

const (
	// askEvery is the time between two questions who has an address. Most
	// strangers are heard earlier, since they announce themselves or ask.
	askEvery = 15 * time.Second
	// confirmAfter is the time after which a stranger must be heard again: a
	// peer whose rules were flushed says its own MAC until they are repaired.
	confirmAfter = time.Second
	// forgetAfter is how long a stranger that is heard no more is told of.
	forgetAfter = 3 * askEvery
	// doubtFor is how long a host heard once is asked for again, every
	// confirmAfter.
	doubtFor = 5 * confirmAfter
	// postEvery is the time between two looks whether all sentries stand.
	postEvery = time.Second
)

// sighting is what was heard of a stranger. It counts once it was heard twice
// with some time between.
type sighting struct {
	mac         string
	first, last time.Time
}

func (s sighting) confirmed() bool { return s.last.Sub(s.first) >= confirmAfter }

// sightings are the strangers heard of, by where they were. Sentries write
// them, others read.
type sightings struct {
	mu   sync.Mutex
	seen map[post]sighting
}

// post is where a sentry stands.
type post struct {
	addr         netip.Addr
	ifname, ours string // the interface and the cluster MAC
}

func postOf(a address) post { return post{a.Addr, a.Interface, a.MAC.String()} }

// hear notes a stranger, and reports whether it counts from now on.
func (s *sightings) hear(at post, mac net.HardwareAddr, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, known := s.seen[at]
	if !known || was.mac != mac.String() && !was.confirmed() {
		was = sighting{mac.String(), now, now}
	}
	is := was
	is.last = now
	s.seen[at] = is
	return is.confirmed() && !was.confirmed()
}

// forget drops what was heard of strangers long ago, or at other posts, and
// returns those of them that counted.
func (s *sightings) forget(posts map[post]bool, now time.Time) []Stranger {
	s.mu.Lock()
	defer s.mu.Unlock()
	var gone []Stranger
	maps.DeleteFunc(s.seen, func(at post, seen sighting) bool {
		keep := doubtFor
		if seen.confirmed() {
			keep = forgetAfter
		}
		if posts[at] && now.Sub(seen.last) < keep {
			return false
		}
		if seen.confirmed() {
			gone = append(gone, strangerAt(at, seen))
		}
		return true
	})
	return gone
}

func strangerAt(at post, seen sighting) Stranger {
	mac, _ := net.ParseMAC(seen.mac) // written by String
	return Stranger{at.addr, at.ifname, mac}
}

// Strangers lists the hosts that claim a shared address, by address. They are
// heard of while Watch runs.
func (p *Plane) Strangers() []Stranger {
	p.strangers.mu.Lock()
	defer p.strangers.mu.Unlock()
	var all []Stranger
	for at, seen := range p.strangers.seen {
		if seen.confirmed() {
			all = append(all, strangerAt(at, seen))
		}
	}
	slices.SortFunc(all, func(a, b Stranger) int { return a.Address.Compare(b.Address) })
	return all
}

// guard keeps a sentry for each shared address until ctx is done.
func (p *Plane) guard(ctx context.Context) {
	type sentry struct {
		dismiss context.CancelFunc
		done    chan struct{}
	}
	sentries := map[post]sentry{}
	tick := time.NewTicker(postEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		wanted := map[post]bool{}
		for _, a := range p.watching().all {
			at := postOf(a)
			wanted[at] = true
			if s, stands := sentries[at]; stands {
				select {
				case <-s.done: // its interface went down, or away
				default:
					continue
				}
			}
			duty, dismiss := context.WithCancel(ctx)
			s := sentry{dismiss, make(chan struct{})}
			sentries[at] = s
			go func() {
				defer close(s.done)
				defer dismiss()
				p.standGuard(duty, a)
			}()
		}
		for at, s := range sentries {
			if !wanted[at] {
				s.dismiss()
				<-s.done
				delete(sentries, at)
			}
		}
		for _, s := range p.strangers.forget(wanted, time.Now()) {
			p.log.Info("the stranger is heard no more", "address", s.Address.String(), "interface", s.Interface, "mac", s.MAC.String())
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	for _, s := range sentries {
		<-s.done
	}
}

// standGuard listens for strangers, and asks from time to time, until ctx is
// done or the interface is no longer there. The kernel hands it no frame but
// those that say where the address is.
func (p *Plane) standGuard(ctx context.Context, a address) {
	var asker asker
	err := p.ns.do(func() error {
		var err error
		asker, err = newAsker(a)
		return err
	})
	if err != nil {
		return
	}
	defer asker.conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = asker.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		if asker.ask() != nil {
			return
		}
		next := time.Now().Add(p.strangers.patience(postOf(a)))
		for {
			if asker.conn.SetReadDeadline(next) != nil || ctx.Err() != nil {
				return
			}
			mac, err := asker.readStranger()
			if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
				break // ask again
			}
			if err != nil {
				return
			}
			now := time.Now()
			if p.strangers.hear(postOf(a), mac, now) {
				p.log.Warn("another host has a shared address: take the address from it, or choose another",
					"address", a.Addr.String(), "interface", a.Interface, "mac", mac.String())
			}
			if again := now.Add(p.strangers.patience(postOf(a))); again.Before(next) {
				next = again
			}
		}
	}
}

// patience is the time until the next question: short while it is open whether
// a host that was heard counts.
func (s *sightings) patience(at post) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seen, heard := s.seen[at]; heard && !seen.confirmed() {
		return confirmAfter
	}
	return askEvery
}
