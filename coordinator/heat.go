package coordinator

import (
	"context"
	"log/slog"
	"maps"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"earshot/hashmode"
	"earshot/nft"
	"earshot/raftstore"
)

// BucketLoad tells how much each bucket of the services has to do on a node:
// any number that grows with the work, by service and bucket. Buckets with
// none are left out.
type BucketLoad interface {
	BucketLoad(services []nft.Service) (map[string]map[hashmode.Bucket]float64, error)
}

// queueTime is the time constant over which a run queue is smoothed.
const queueTime = 5 * time.Second

// runQueue is the length of this machine's run queue per processor, without
// this process. It is read from /proc/loadavg's count of runnable tasks: the
// averages beside that have a minute's memory and count tasks that wait for
// disks, the time that processors are busy (/proc/stat) ends at all of it, and
// pressure (/proc/pressure) begins only there, on kernels that have it.
type runQueue struct {
	mu    sync.Mutex
	value float64
	at    time.Time
}

// look reads the queue once more and returns the smoothed length; zero where
// it cannot be read.
func (q *runQueue) look(now time.Time) float64 {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	n, ok := runnable(string(data))
	if !ok {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	length := max(float64(n-1), 0) / float64(runtime.NumCPU())
	if q.at.IsZero() {
		q.value = length
	} else {
		q.value += (length - q.value) * (1 - math.Exp(-now.Sub(q.at).Seconds()/queueTime.Seconds()))
	}
	q.at = now
	return q.value
}

// runnable reads the number of runnable tasks out of "0.20 0.18 0.12 3/80 11206".
func runnable(text string) (int, bool) {
	fields := strings.Fields(text)
	if len(fields) < 4 {
		return 0, false
	}
	number, _, found := strings.Cut(fields[3], "/")
	n, err := strconv.Atoi(number)
	return n, found && err == nil && n >= 0
}

// heatAnswer is the load of a node's buckets, by service.
type heatAnswer struct {
	Heat map[string]map[hashmode.Bucket]float64 `json:"heat"`
}

// heat is what this node's own buckets have to do.
func (c *Coordinator) heat() (heatAnswer, error) {
	heat, err := c.load.BucketLoad(c.services())
	return heatAnswer{Heat: heat}, err
}

// heatOf asks a node, which may be this one.
func (c *Coordinator) heatOf(ctx context.Context, n raftstore.Node) (heatAnswer, error) {
	if n.Name == c.cfg.Node {
		return c.heat()
	}
	var a heatAnswer
	err := c.peers.Call(ctx, n.Listen, pathHeat, struct{}{}, &a)
	return a, err
}

// survey is the load of all buckets, wherever their flows are.
type survey struct {
	number int
	term   uint64
	heat   map[string][]float64
}

// surveyor asks all nodes for the load of their buckets, while this node leads
// and a service goes by load. It is not part of the leader's loop, which must
// not wait for anybody.
type surveyor struct {
	store Store
	ask   func(ctx context.Context, node raftstore.Node) (heatAnswer, error)
	log   *slog.Logger
	last  atomic.Pointer[survey]
}

func (s *surveyor) run(ctx context.Context) error {
	ticker := time.NewTicker(loadRound)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			s.look(ctx)
		}
	}
}

// byLoad names the services whose shares go by load.
func byLoad(st *raftstore.State) []string {
	return slices.DeleteFunc(st.ServiceNames(), func(name string) bool {
		return st.Services[name].Balance != raftstore.BalanceLoad
	})
}

// look asks once. Without the answer of a node that may have flows nothing is
// known: it would look cool.
func (s *surveyor) look(ctx context.Context) {
	st, lead := s.store.State(), s.store.Leadership()
	services := byLoad(st)
	if !lead.Self || len(services) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, loadRound/2)
	defer cancel()
	now := map[string][]float64{}
	for _, name := range services {
		now[name] = make([]float64, len(st.Services[name].Map))
	}
	var mu sync.Mutex
	var asking sync.WaitGroup
	complete := true
	for _, name := range st.NodeNames() {
		n := st.Nodes[name]
		if n.Failed || n.Witness {
			continue
		}
		asking.Go(func() {
			a, err := s.ask(ctx, n)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				s.log.Debug("load unknown", "node", n.Name, "error", err)
				complete = false
				return
			}
			for service, buckets := range a.Heat {
				for b, h := range buckets {
					if int(b) < len(now[service]) && h > 0 {
						now[service][b] += h
					}
				}
			}
		})
	}
	asking.Wait()
	if complete {
		s.enter(lead.Term, now)
	}
}

// enter smooths what was measured with what was before, in the same term.
func (s *surveyor) enter(term uint64, now map[string][]float64) {
	next := &survey{number: 1, term: term, heat: now}
	if before := s.last.Load(); before != nil {
		next.number = before.number + 1
		for name, heat := range now {
			old := before.heat[name]
			if before.term != term || len(old) != len(heat) {
				continue
			}
			for b := range heat {
				heat[b] = blend(old[b], heat[b])
			}
		}
	}
	s.last.Store(next)
}

// moved remembers when the load last moved a bucket of a service.
type moved map[string]map[hashmode.Bucket]time.Time

// lately reports a bucket that is to rest.
func (m moved) lately(now time.Time, service string, b hashmode.Bucket) bool {
	at, known := m[service][b]
	return known && now.Sub(at) <= loadRest
}

// note enters a move, and forgets old ones.
func (m moved) note(now time.Time, service string, all []shift) {
	if m[service] == nil {
		m[service] = map[hashmode.Bucket]time.Time{}
	}
	maps.DeleteFunc(m[service], func(_ hashmode.Bucket, at time.Time) bool { return now.Sub(at) > loadRest })
	for _, s := range all {
		m[service][s.bucket] = now
	}
}

// climateOf is a service's load as the leader knows it.
func climateOf(st *raftstore.State, service string, heat []float64, queue map[string]float64, stays func(hashmode.Bucket) bool) *climate {
	v := st.Services[service]
	c := &climate{
		nodes: takersOf(st, serving(st, service)), weight: func(n string) int { return max(st.Nodes[n].Weight, 1) },
		queue: queue, heat: heat, most: shiftMost(len(v.Map)),
	}
	prefers := map[string]hashmode.Set{}
	for _, n := range c.nodes {
		if set, err := hashmode.ParseSet(st.Nodes[n].Prefer[service], hashmode.MaxBuckets); err == nil {
			prefers[n] = set
		}
	}
	for _, slot := range v.Map {
		c.owner = append(c.owner, slot.Owner)
	}
	c.fixed = func(b hashmode.Bucket) bool {
		slot := v.Map[b]
		return slot.Pin != "" || len(slot.From) > 0 || prefers[slot.Owner].Has(b) || stays(b)
	}
	return c
}

// balance shifts buckets from hot nodes to cool ones, once for each survey,
// when there is nothing else to move.
func (l *leader) balance(ctx context.Context, now time.Time) {
	sv, st := l.surveyor.last.Load(), l.store.State()
	if sv == nil || sv.term != l.term || sv.number == l.balanced || st != l.idle || !st.Formed {
		return
	}
	way := l.leeway(now, st)
	if !way.even {
		return
	}
	l.balanced = sv.number
	queue := l.ledger.queues()
	assign := raftstore.Assign{Epoch: st.Epoch, Shares: map[string]map[string]raftstore.Share{}}
	shifted := map[string][]shift{}
	for _, name := range byLoad(st) {
		if len(sv.heat[name]) != len(st.Services[name].Map) {
			continue
		}
		c := climateOf(st, name, sv.heat[name], queue, func(b hashmode.Bucket) bool {
			return l.moved.lately(now, name, b) || way.spent[name].Has(b)
		})
		if left := way.left(name); left >= 0 {
			c.most = min(c.most, left)
		}
		if all := c.shifts(); len(all) > 0 {
			moves, shares := assignOf(st, name, c.nodes, all)
			assign.Moves = append(assign.Moves, moves...)
			assign.Shares[name], shifted[name] = shares, all
		}
	}
	if len(assign.Moves) == 0 {
		return
	}
	l.log.Info("moving buckets because of the load", "epoch", st.Epoch, "moves", assign.Moves)
	l.try(ctx, raftstore.Command{Assign: &assign})
	at := time.Now()
	l.pace.spend(at, st, assign.Moves)
	for name, all := range shifted {
		l.moved.note(at, name, all)
	}
}

// queues are the run queues that nodes tell of.
func (l *ledger) queues() map[string]float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string]float64{}
	for name, t := range l.tenants {
		all[name] = t.queue
	}
	return all
}
