package event

import (
	"maps"
	"slices"
	"strings"

	"earshot/hashmode"
)

// View is the cluster as one node knows it at one moment: a plain value.
type View struct {
	// Self is the node that looks.
	Self  string
	Epoch uint64
	Nodes map[string]Node
	// Services by name.
	Services map[string]Service
	Leader   string
	// Quorum and Lease are the node's own; Silence is why it has none.
	Quorum, Lease bool
	Silence       string
	// Repairs counts how often the node's kernel was repaired.
	Repairs uint64
	// Warnings of the status.
	Warnings []string
}

// Node is a member of the cluster.
type Node struct {
	// Disk tells a node from one of the same name before it.
	Disk        string
	Failed, Out bool
	// Sick says, by service, why the node cannot serve it.
	Sick map[string]string
}

// Service is what the cluster has under a service's name.
type Service struct {
	// Definition in words that are equal for equal definitions, by key.
	Definition map[string]string
	// Hash is how packets become buckets: another one makes other buckets.
	Hash hashmode.Spec
	// Shares by node.
	Shares map[string]Share
}

// Share is a node's part of a service.
type Share struct {
	// Open: the node opens flows there. Drain: it has flows from before.
	Open, Drain hashmode.Set
}

// Derive lists what happened between two views of one node: what explains
// comes before what follows from it. Seq and Time are left to others.
func Derive(before, after View) []Event {
	d := &deriver{before: before, after: after}
	d.services()
	d.nodes()
	d.leader()
	d.shares()
	d.self()
	return d.events
}

type deriver struct {
	before, after View
	events        []Event
}

func (d *deriver) add(e Event) {
	e.By, e.Epoch = d.after.Self, d.after.Epoch
	d.events = append(d.events, e)
}

// union returns the keys of two maps, sorted.
func union[V any](a, b map[string]V) []string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]V{}
	}
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

func (d *deriver) services() {
	for _, name := range union(d.before.Services, d.after.Services) {
		was, before := d.before.Services[name]
		is, after := d.after.Services[name]
		switch {
		case !before:
			d.add(Event{Type: Define, Service: name})
		case !after:
			d.add(Event{Type: Remove, Service: name})
		case !maps.Equal(was.Definition, is.Definition):
			d.add(Event{Type: Change, Service: name, Reason: differences(was.Definition, is.Definition)})
		}
	}
}

// differences lists the keys that differ, with their new values.
func differences(was, is map[string]string) string {
	text := ""
	for _, key := range union(was, is) {
		if was[key] == is[key] {
			continue
		}
		if text != "" {
			text += ", "
		}
		text += key + ": " + was[key] + " → " + is[key]
	}
	return text
}

func (d *deriver) nodes() {
	for _, name := range union(d.before.Nodes, d.after.Nodes) {
		was, before := d.before.Nodes[name]
		is, after := d.after.Nodes[name]
		switch {
		case !after:
			d.add(Event{Type: Leave, Node: name})
			continue
		case !before:
			d.add(Event{Type: Join, Node: name})
		case was.Disk != is.Disk:
			d.add(Event{Type: Join, Node: name, Reason: "with an empty disk"})
		}
		d.turn(was.Failed, is.Failed, Event{Type: Fail, Node: name}, Event{Type: Back, Node: name})
		d.turn(was.Out, is.Out, Event{Type: Out, Node: name}, Event{Type: In, Node: name})
		d.health(name, was.Sick, is.Sick)
	}
}

// turn adds an event if a fact has changed.
func (d *deriver) turn(was, is bool, on, off Event) {
	switch {
	case is && !was:
		d.add(on)
	case was && !is:
		d.add(off)
	}
}

func (d *deriver) health(node string, was, is map[string]string) {
	for _, service := range union(was, is) {
		reason, sick := is[service]
		before, wasSick := was[service]
		switch {
		case sick && (!wasSick || reason != before):
			d.add(Event{Type: Sick, Node: node, Service: service, Reason: reason})
		case wasSick && !sick:
			d.add(Event{Type: Well, Node: node, Service: service})
		}
	}
}

func (d *deriver) leader() {
	// Between two leaders there is none for a moment: NoQuorum says it if it lasts.
	if is := d.after.Leader; is != "" && is != d.before.Leader {
		d.add(Event{Type: Leader, Node: is})
	}
}

// shares tells all losses before all gains, as they happen.
func (d *deriver) shares() {
	services := union(d.before.Services, d.after.Services)
	each := func(f func(service, node string, was, is Share)) {
		for _, service := range services {
			was, is := d.before.Services[service], d.after.Services[service]
			for _, node := range union(was.Shares, is.Shares) {
				f(service, node, was.Shares[node], is.Shares[node])
			}
		}
	}
	each(func(service, node string, was, is Share) {
		d.share(Lose, service, node, d.gone(service, was.Open, is.Open), d.whyLost(service, node))
		d.share(Drain, service, node, d.come(service, was.Drain, is.Drain), "")
	})
	each(func(service, node string, was, is Share) {
		d.share(Gain, service, node, d.come(service, was.Open, is.Open), "")
		if !d.rehashed(service) { // else its flows drain on under other numbers
			d.share(Drained, service, node, was.Drain.Minus(is.Drain), "")
		}
	})
}

// rehashed: bucket numbers before and after mean other packets.
func (d *deriver) rehashed(service string) bool {
	was, before := d.before.Services[service]
	is, after := d.after.Services[service]
	return before && after && was.Hash != is.Hash
}

func (d *deriver) gone(service string, was, is hashmode.Set) hashmode.Set {
	if d.rehashed(service) {
		return was
	}
	return was.Minus(is)
}

func (d *deriver) come(service string, was, is hashmode.Set) hashmode.Set {
	if d.rehashed(service) {
		return is
	}
	return is.Minus(was)
}

func (d *deriver) share(t Type, service, node string, buckets hashmode.Set, reason string) {
	if buckets.Empty() {
		return
	}
	d.add(Event{Type: t, Node: node, Service: service, Buckets: buckets.String(), Count: buckets.Len(), Reason: reason})
}

// whyLost says what is known of the reason for a loss.
func (d *deriver) whyLost(service, node string) string {
	n, member := d.after.Nodes[node]
	_, defined := d.after.Services[service]
	switch {
	case !defined:
		return "the service was removed"
	case !member:
		return "the node was forgotten"
	case d.rehashed(service):
		return "the service's hash changed"
	case n.Failed:
		return "the node failed"
	case n.Out:
		return "the node is out"
	}
	return n.Sick[service]
}

// self tells what is the looking node's own.
func (d *deriver) self() {
	node := d.after.Self
	d.turn(d.before.Quorum, d.after.Quorum, Event{Type: Quorum, Node: node}, Event{Type: NoQuorum, Node: node, Reason: d.after.Silence})
	d.turn(d.before.Lease, d.after.Lease, Event{Type: Lease, Node: node}, Event{Type: NoLease, Node: node, Reason: d.after.Silence})
	if d.after.Repairs > d.before.Repairs {
		d.add(Event{Type: Repair, Node: node})
	}
	was, is := subjects(d.before.Warnings), subjects(d.after.Warnings)
	for i, w := range d.after.Warnings {
		if !slices.Contains(was, is[i]) {
			d.add(Event{Type: Warning, Reason: w})
		}
	}
	for i, w := range d.before.Warnings {
		if !slices.Contains(is, was[i]) {
			d.add(Event{Type: Cleared, Reason: w})
		}
	}
}

// subjects are what warnings are about: the same with other figures is no new
// one. What stands before the first colon may be a node's name.
func subjects(warnings []string) []string {
	var all []string
	for _, w := range warnings {
		who, what, _ := strings.Cut(w, ": ")
		all = append(all, who+": "+strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return -1
			}
			return r
		}, what))
	}
	return all
}
