package sim

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"earshot/hashmode"
	"earshot/raftstore"
)

// operator gives commands, one after the other, and remembers which were
// acknowledged (I5).
type operator struct {
	world *world

	mu    sync.Mutex
	wants map[string]*wanted // by what a command sets
	acks  int
	// forgot names the nodes that he has tried to forget since the cluster was
	// at rest. With a node goes what was said of it.
	forgot map[string]bool
	cut    map[string]bool // likewise, nodes that were told not to wait for their flows
	gone   map[string]bool // server ids of those whose end was acknowledged
}

// wanted is what a value must be: the one acknowledged last, or one of those
// whose outcome is unknown.
type wanted struct {
	acked string
	maybe []string
}

func newOperator(w *world) *operator {
	return &operator{world: w, wants: map[string]*wanted{}, forgot: map[string]bool{}, cut: map[string]bool{}, gone: map[string]bool{}}
}

// act gives one command. A careful operator leaves two nodes in beside the one
// that may be about to fail.
func (o *operator) act(careful bool) {
	w := o.world
	leader := w.leader()
	if leader == nil {
		return
	}
	nodes := w.all()
	n := nodes[w.fate.below(len(nodes))]
	first := w.fate.below(webBuckets)
	last := min(first+w.fate.below(4), webBuckets-1)
	set := hashmode.Range(hashmode.Bucket(first), hashmode.Bucket(last))
	var cmd raftstore.Command
	sets := map[string]string{}
	switch kind := w.fate.below(10); {
	case kind < 3 && (!careful || w.in() > 2):
		cmd.Wish = &raftstore.Wish{Node: n.name, Out: true, Cut: w.fate.chance(0.3)}
		sets["out "+n.name] = "true"
	case kind < 6:
		cmd.Wish = &raftstore.Wish{Node: n.name}
		sets["out "+n.name] = "false"
	default:
		cmd.Pin = &raftstore.Pin{Service: "web", Buckets: set.String()}
		if kind < 9 {
			cmd.Pin.Node = n.name
		}
		for b := range set.All() {
			sets[fmt.Sprint("pin ", b)] = cmd.Pin.Node
		}
	}
	o.propose(leader, cmd, sets)
}

// in counts the nodes that are in.
func (w *world) in() int {
	leader := w.leader()
	if leader == nil {
		return 0
	}
	p := leader.running()
	if p == nil {
		return 0
	}
	count := 0
	for _, n := range p.store.State().Nodes {
		if !n.Out && !n.Witness {
			count++
		}
	}
	return count
}

// answering counts the machines that are no witnesses.
func (w *world) answering() int {
	return len(slices.DeleteFunc(slices.Clone(w.all()), func(n *node) bool { return n.witness }))
}

// restore brings every node in again.
func (o *operator) restore(n *node) {
	if leader := o.world.leader(); leader != nil {
		o.propose(leader, raftstore.Command{Wish: &raftstore.Wish{Node: n.name}}, map[string]string{"out " + n.name: "false"})
	}
}

func (o *operator) propose(leader *node, cmd raftstore.Command, sets map[string]string) {
	p := leader.running()
	if p == nil || p.stopped() {
		return
	}
	if cmd.Wish != nil && cmd.Wish.Cut {
		o.mu.Lock()
		o.cut[cmd.Wish.Node] = true
		o.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	index, err := p.store.Propose(ctx, cmd)
	if !p.alive() {
		err = raftstore.ErrUnknown // nobody heard the answer
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.world.history.fault("operator: %v%v through %s: index %d, %v", wishOf(cmd), pinOf(cmd), leader.name, index, err)
	for what, value := range sets {
		want := o.wants[what]
		if want == nil {
			want = &wanted{acked: map[bool]string{true: "false", false: ""}[cmd.Wish != nil]}
			o.wants[what] = want
		}
		switch {
		case err == nil:
			want.acked, want.maybe = value, nil // what came before cannot come after
			o.acks++
		case errors.Is(err, raftstore.ErrUnknown):
			want.maybe = append(want.maybe, value)
		}
	}
}

func wishOf(c raftstore.Command) string {
	if c.Wish == nil {
		return ""
	}
	return fmt.Sprintf("%+v", *c.Wish)
}

func pinOf(c raftstore.Command) string {
	if c.Pin == nil {
		return ""
	}
	return fmt.Sprintf("%+v", *c.Pin)
}

// check holds a state that everybody has against what was acknowledged.
func (o *operator) check(st *raftstore.State) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, n := range o.world.all() {
		if why := o.compare("out "+n.name, fmt.Sprint(st.Nodes[n.name].Out)); why != "" {
			return why
		}
		if o.gone[st.Nodes[n.name].ServerID] {
			return n.name + " is a member still, and to forget it was acknowledged"
		}
	}
	for b, slot := range st.Services["web"].Map {
		if why := o.compare(fmt.Sprint("pin ", b), slot.Pin); why != "" {
			return why
		}
	}
	clear(o.forgot)
	clear(o.cut)
	return ""
}

func (o *operator) compare(what, is string) string {
	want := o.wants[what]
	if want == nil || want.acked == is {
		return ""
	}
	if o.gave(what, want) && (is == "" || is == "false") {
		*want = wanted{acked: is}
		return ""
	}
	for _, m := range want.maybe {
		if m == is {
			return ""
		}
	}
	return fmt.Sprintf("%s is %q, acknowledged was %q (unknown: %q)", what, is, want.acked, want.maybe)
}

// pinAll gives every bucket of one service to a node.
func (o *operator) pinAll(n *node) {
	leader := o.world.leader()
	if leader == nil {
		return
	}
	sets := map[string]string{}
	for b := range webBuckets {
		sets[fmt.Sprint("pin ", b)] = n.name
	}
	o.propose(leader, raftstore.Command{Pin: &raftstore.Pin{
		Service: "web", Buckets: hashmode.Range(0, webBuckets-1).String(), Node: n.name,
	}}, sets)
}

// pin gives one bucket to a node, through another.
func (o *operator) pin(through *node, bucket int, to *node) {
	o.propose(through, raftstore.Command{Pin: &raftstore.Pin{
		Service: "web", Buckets: strconv.Itoa(bucket), Node: to.name,
	}}, map[string]string{fmt.Sprint("pin ", bucket): to.name})
}

// gave reports whether what was said may have gone with a node that is
// forgotten.
func (o *operator) gave(what string, want *wanted) bool {
	if node, ok := strings.CutPrefix(what, "out "); ok {
		return o.forgot[node]
	}
	return o.forgot[want.acked] || slices.ContainsFunc(want.maybe, func(node string) bool { return o.forgot[node] })
}

// forget has the cluster forget a node, asks again until it has, and returns
// when ended is closed.
func (o *operator) forget(n *node, ended <-chan struct{}) {
	o.mu.Lock()
	o.forgot[n.name] = true
	o.mu.Unlock()
	for {
		if leader := o.world.leader(); leader != nil && leader != n && o.forgetOnce(leader, n) {
			<-ended
			return
		}
		if wait(o.world.timing.Renew, ended) != nil {
			return
		}
	}
}

func (o *operator) forgetOnce(leader, n *node) (done bool) {
	id := ""
	if p := leader.running(); p != nil {
		id = p.store.State().Nodes[n.name].ServerID
	}
	r, err := http.NewRequest(http.MethodPost, "https://"+leader.addr+"/v1/forget", nil)
	if err != nil {
		panic(err)
	}
	ctx, cancel := timeout(2 * time.Second)
	defer cancel()
	body := fmt.Sprintf(`{"node":%q}`, n.name)
	got, err := ask(leader, r, []byte(body), ctx.Done())
	if err != nil {
		o.world.history.fault("operator: forget %s through %s: %v", n.name, leader.name, err)
		return false
	}
	text := got.body.String()
	o.world.history.fault("operator: forget %s through %s: %d %s", n.name, leader.name, got.status, text)
	if got.status != http.StatusOK {
		return strings.Contains(text, raftstore.ErrUnknownNode.Error())
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.acks++
	o.gone[id] = true
	return true
}

// mayCut reports whether the node may have been told not to wait for its flows.
func (o *operator) mayCut(n *node) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.cut[n.name]
}
