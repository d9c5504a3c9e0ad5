package coordinator

import (
	"cmp"
	"slices"

	"earshot/hashmode"
	"earshot/raftstore"
)

// plan returns the moves that give every bucket an owner that serves and
// every node its even share, with the fewest moves. Shares differ by at most
// one bucket per unit of weight. A node of weight 0 is a last resort: it has
// buckets only while no node of a greater weight serves.
//
// It is a pure function of its arguments and walks nodes and services by
// name, so that every node would plan the same. busy reports a bucket whose
// last move is not taken yet: it stays where it is (rule P15), unless its
// owner has failed; so does one that nobody could take now (stuck). Buckets
// whose owner does not serve always move else; way says how many others may,
// which can take several plans to even the shares out.
func plan(st *raftstore.State, busy func(service string, b hashmode.Bucket) bool, way leeway) []raftstore.Move {
	var moves []raftstore.Move
	for _, name := range st.ServiceNames() {
		nodes := serving(st, name)
		if len(nodes) == 0 {
			continue // whoever has a bucket keeps it
		}
		d := newDeal(st, nodes, name, busy)
		if d.way = way; !st.Nodes[nodes[0]].Serves(name) {
			d.way = orphansAlone() // to move what has an owner would help nobody
		}
		d.left = d.way.left(name)
		d.collect()
		moves = append(moves, d.moves(name)...)
	}
	return moves
}

// deal is the planning of one service.
type deal struct {
	state   *raftstore.State
	service raftstore.Service
	// answering are the nodes that can have buckets, the restarting ones too.
	answering map[string]bool
	busy      func(hashmode.Bucket) bool
	nodes     []string       // that serve, by name
	takers    []string       // those of them that share the buckets
	target    map[string]int // buckets that each shall have
	have      map[string]int // buckets that each has or has been given
	loose     []hashmode.Bucket
	gives     map[string]*hashmode.Set
	claims    map[hashmode.Bucket]string // who would rather have a bucket, and shall
	way       leeway
	slack     int // how many buckets beyond its share a node may keep
	left      int // how many buckets that have an owner may move; below zero: all
}

// serving lists, by name, the nodes that can be given buckets of the service
// and can take them now. One that restarts keeps what it has. Where no node
// serves, those are listed that could answer all the same.
func serving(st *raftstore.State, service string) []string {
	answering := st.Answering(service)
	return slices.DeleteFunc(st.NodeNames(), func(name string) bool {
		return !answering[name] || !st.Nodes[name].Follows()
	})
}

func newDeal(st *raftstore.State, nodes []string, service string, busy func(string, hashmode.Bucket) bool) *deal {
	d := &deal{
		state:   st,
		service: st.Services[service], answering: st.Answering(service),
		nodes:  nodes,
		takers: takersOf(st, nodes),
		busy:   func(b hashmode.Bucket) bool { return busy(service, b) },
		have:   map[string]int{},
		gives:  map[string]*hashmode.Set{},
	}
	for _, name := range nodes {
		d.gives[name] = &hashmode.Set{}
	}
	pinned := map[string]int{}
	pool := len(d.service.Map)
	for b := range d.service.Map {
		d.have[d.ownerOf(hashmode.Bucket(b))]++
		if pin := d.pinOf(hashmode.Bucket(b)); pin != "" {
			pinned[pin]++
		}
		if d.absent(hashmode.Bucket(b)) {
			pool--
		}
	}
	d.target = d.targets(pool, pinned)
	d.claims = d.claimed(pinned)
	return d
}

// absent reports a bucket whose owner restarts: it can release nothing.
func (d *deal) absent(b hashmode.Bucket) bool {
	n, known := d.state.Nodes[d.service.Map[b].Owner]
	return known && !n.Failed && !n.Follows()
}

// stuck names a node that restarts and has, or may have, flows in a bucket whose
// owner lives; empty for none. It can release nothing: whoever got the bucket
// would hold what opens flows until that node is back, and the owner answers.
func stuck(st *raftstore.State, slot raftstore.Slot) string {
	if owner, known := st.Nodes[slot.Owner]; !known || owner.Failed {
		return ""
	}
	for _, name := range append([]string{slot.Owner}, slot.From...) {
		if n, known := st.Nodes[name]; known && !n.Failed && !n.Follows() {
			return name
		}
	}
	return ""
}

func (d *deal) weight(node string) int { return d.state.Nodes[node].Weight }

// ownerOf is the bucket's owner if that serves.
func (d *deal) ownerOf(b hashmode.Bucket) string {
	owner := d.service.Map[b].Owner
	if d.answering[owner] {
		return owner
	}
	return ""
}

// pinOf is the node that the bucket is pinned to, if that can have it.
func (d *deal) pinOf(b hashmode.Bucket) string {
	if pin := d.service.Map[b].Pin; d.gives[pin] != nil && !d.absent(b) {
		return pin
	}
	return ""
}

// fixed reports a bucket that the plan must leave where it is for now.
func (d *deal) fixed(b hashmode.Bucket) bool {
	n, known := d.state.Nodes[d.service.Map[b].Owner]
	return stuck(d.state, d.service.Map[b]) != "" || known && !n.Failed && d.busy(b)
}

// collect takes the buckets that are to move: orphans, buckets away from the
// node that they are pinned to or that claims them, and what a node has beyond
// its share.
func (d *deal) collect() {
	var spare []hashmode.Bucket
	for b := len(d.service.Map) - 1; b >= 0; b-- {
		bucket := hashmode.Bucket(b)
		owner, pin, claim := d.ownerOf(bucket), d.pinOf(bucket), d.claims[bucket]
		switch {
		case d.fixed(bucket):
		case pin != "" && owner != pin && (owner == "" || d.way.even):
			d.have[owner]--
			d.give(bucket, pin)
		case owner == "":
			d.loose = append(d.loose, bucket)
		case pin != "" || owner == claim:
		case claim != "":
			if d.mayMove(bucket) {
				d.have[owner]--
				d.give(bucket, claim)
			}
		default:
			spare = append(spare, bucket)
		}
	}
	// First what another node, short of buckets, still has flows in.
	slices.SortStableFunc(spare, func(a, b hashmode.Bucket) int {
		return cmp.Compare(d.wantedBack(b), d.wantedBack(a))
	})
	for _, b := range spare {
		if owner := d.ownerOf(b); d.have[owner] > d.target[owner]+d.slack && d.mayMove(b) {
			d.have[owner]--
			d.loose = append(d.loose, b)
		}
	}
	slices.Sort(d.loose)
}

// mayMove reports whether a bucket that has an owner may move, and counts it.
func (d *deal) mayMove(b hashmode.Bucket) bool {
	if d.left == 0 || d.way.spent[d.service.Name].Has(b) {
		return false
	}
	d.left--
	return true
}

// wantedBack is 1 if a node that is short of buckets has flows in b.
func (d *deal) wantedBack(b hashmode.Bucket) int {
	for _, node := range d.service.Map[b].From {
		if d.short(node) {
			return 1
		}
	}
	return 0
}

// short reports whether a node that serves has less than its share.
func (d *deal) short(node string) bool { return d.gives[node] != nil && d.have[node] < d.target[node] }

func (d *deal) give(b hashmode.Bucket, node string) {
	d.gives[node].Add(b)
	d.have[node]++
}

// moves deals the loose buckets out.
func (d *deal) moves(service string) []raftstore.Move {
	var rest []hashmode.Bucket
	for _, b := range d.loose {
		if claim := d.claims[b]; claim != "" && d.short(claim) {
			d.give(b, claim)
		} else if i := slices.IndexFunc(d.service.Map[b].From, d.short); i >= 0 {
			d.give(b, d.service.Map[b].From[i])
		} else {
			rest = append(rest, b)
		}
	}
	for _, b := range rest {
		d.give(b, d.neediest())
	}
	var moves []raftstore.Move
	for _, node := range d.nodes {
		if !d.gives[node].Empty() {
			moves = append(moves, raftstore.Move{Service: service, Buckets: d.gives[node].String(), To: node})
		}
	}
	return moves
}

// neediest is the first taker by name below its share, or the one that is
// least above it.
func (d *deal) neediest() string {
	return slices.MinFunc(d.takers, func(a, b string) int {
		over := func(n string) int { return max(d.have[n]-d.target[n], -1) }
		return cmp.Compare(over(a), over(b))
	})
}
