package load

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"time"
)

// question key: one attempt of a client. A new SYN of the same ports has
// another sequence number and is another question.
type asked struct {
	proto          Proto
	client, server netip.AddrPort
	id             uint64
}

// exchange is a question and everything that came back.
type exchange struct {
	first     time.Time            // when it was asked
	times     int                  // how often it was asked; TCP repeats itself
	answered  time.Time            // at first
	openings  map[string]int       // SYN-ACKs, datagrams, echo replies, resets and errors, per node
	began     map[string]time.Time // the first of them, per node
	sequences map[uint32]bool      // of the SYN-ACKs
	speakers  map[string]bool      // nodes that sent anything
}

// ledger keeps the questions of one client. It is not safe for concurrent use.
type ledger struct {
	names     map[[6]byte]string
	own       [6]byte
	exchanges map[asked]*exchange
	current   map[asked]uint64 // the newest id of ports, under id 0
}

func newLedger(own [6]byte, names map[[6]byte]string) *ledger {
	return &ledger{names: names, own: own, exchanges: map[asked]*exchange{}, current: map[asked]uint64{}}
}

// enter takes one frame.
func (l *ledger) enter(f frame) {
	if f.from == l.own {
		l.out(f)
		return
	}
	node, known := l.names[f.from]
	if !known {
		node = fmt.Sprintf("stranger %x", f.from)
	}
	l.in(f, node)
}

// out takes a frame of the client's: is it a question?
func (l *ledger) out(f frame) {
	key := asked{proto: f.proto, client: f.src, server: f.dst, id: f.id}
	switch {
	case f.proto == TCP && f.flags&(flagSYN|flagACK) == flagSYN:
		key.id = uint64(f.sequence)
	case f.proto == Datagram, f.proto == Echo && f.request:
	default:
		return
	}
	x := l.exchanges[key]
	if x == nil {
		x = &exchange{first: f.at, openings: map[string]int{}, began: map[string]time.Time{}, sequences: map[uint32]bool{}, speakers: map[string]bool{}}
		l.exchanges[key] = x
	}
	x.times++
	id := key.id
	key.id = 0
	l.current[key] = id
}

// in takes a frame that a node sent: is it an answer to a question?
func (l *ledger) in(f frame, node string) {
	about := f
	if f.proto == unreachable {
		about = *f.about
		about.src, about.dst = about.dst, about.src
	}
	if about.proto == Echo && f.proto == Echo && f.request {
		return
	}
	key := asked{proto: about.proto, client: about.dst, server: about.src, id: about.id}
	if about.proto == TCP || f.proto == unreachable {
		key.id = 0
		key.id = l.current[key]
	}
	x := l.exchanges[key]
	if x == nil {
		return
	}
	x.speakers[node] = true
	synAck := f.proto == TCP && f.flags&(flagSYN|flagACK) == flagSYN|flagACK
	if synAck {
		x.sequences[f.sequence] = true
	}
	if f.proto != TCP || synAck || f.flags&flagRST != 0 && len(x.openings) == 0 {
		if x.openings[node]++; x.openings[node] == 1 {
			x.began[node] = f.at
		}
		if x.answered.IsZero() {
			x.answered = f.at
		}
	}
}

// twice says why the question was answered twice, or nothing.
func (x *exchange) twice(key asked) string {
	switch {
	case len(x.openings) > 1:
		return "answered by " + x.answers()
	case len(x.sequences) > 1:
		return fmt.Sprintf("%d SYN-ACKs with different sequence numbers from %s", len(x.sequences), join(x.openings))
	case key.proto != TCP && total(x.openings) > x.times:
		return fmt.Sprintf("asked %d times, answered %d times by %s", x.times, total(x.openings), join(x.openings))
	}
	return ""
}

// answers lists who answered, and when at first after the question.
func (x *exchange) answers() string {
	var all []string
	for _, node := range slices.Sorted(maps.Keys(x.openings)) {
		all = append(all, fmt.Sprintf("%s after %v", node, x.began[node].Sub(x.first).Round(100*time.Microsecond)))
	}
	return strings.Join(all, " and ")
}

// join lists the keys of a map.
func join[V any](m map[string]V) string {
	return strings.Join(slices.Sorted(maps.Keys(m)), " and ")
}

func total(m map[string]int) int {
	n := 0
	for _, v := range m {
		n += v
	}
	return n
}

func (a asked) String() string {
	return fmt.Sprintf("%s %s to %s", a.proto, a.client, a.server)
}

// Verdict is what the witness saw of one kind of question.
type Verdict struct {
	Asked      int            // questions, not repetitions
	Unanswered int            // no node said anything
	Nodes      map[string]int // questions per answering node
	Twice      []string       // questions with more than one answer
	Mixed      []string       // connections that several nodes spoke on
	Repeated   []string       // TCP: SYNs that the client had to send again
	// Waits are how long questions waited for their first answer on the wire,
	// whatever the client's own processes waited for: the shortest first.
	Waits []time.Duration
}

// verdict sums up.
func (l *ledger) verdict(proto Proto) Verdict {
	v := Verdict{Nodes: map[string]int{}}
	for key, x := range l.exchanges {
		if key.proto != proto {
			continue
		}
		v.Asked++
		if len(x.speakers) == 0 {
			v.Unanswered++
		}
		for node := range x.openings {
			v.Nodes[node]++
		}
		if !x.answered.IsZero() {
			v.Waits = append(v.Waits, x.answered.Sub(x.first))
		}
		if key.proto == TCP && x.times > 1 {
			v.Repeated = append(v.Repeated, fmt.Sprintf("%s: sent %d times, at first %s", key, x.times, x.first.Format(time.StampMilli)))
		}
		if why := x.twice(key); why != "" {
			v.Twice = append(v.Twice, fmt.Sprintf("%s: %s; asked %d times, at first %s", key, why, x.times, x.first.Format(time.StampMilli)))
		} else if len(x.speakers) > 1 {
			v.Mixed = append(v.Mixed, key.String()+": spoken on by "+join(x.speakers))
		}
	}
	slices.Sort(v.Twice)
	slices.Sort(v.Mixed)
	slices.Sort(v.Repeated)
	slices.Sort(v.Waits)
	return v
}

// Waited says how long questions waited, and how many for longer than a limit.
func (v Verdict) Waited(limit time.Duration) string {
	late := len(v.Waits) - sort.Search(len(v.Waits), func(i int) bool { return v.Waits[i] > limit })
	return fmt.Sprintf("answered after %v (p50), %v (p99), %v at the latest, %d later than %v",
		quantile(v.Waits, 0.5), quantile(v.Waits, 0.99), quantile(v.Waits, 1), late, limit)
}

// answerer is the one node that answered the newest question of these ports.
func (l *ledger) answerer(proto Proto, client, server netip.AddrPort) (string, bool) {
	key := asked{proto: proto, client: client, server: server}
	key.id = l.current[key]
	x := l.exchanges[key]
	if x == nil || len(x.openings) != 1 {
		return "", false
	}
	return join(x.openings), true
}
