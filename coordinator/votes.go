package coordinator

import (
	"cmp"
	"slices"
)

// mostVoters is how many servers vote: two may fail. More would make commits
// slower and the cluster hardly safer.
const mostVoters = 5

// elector is a server of the Raft cluster, as far as its vote goes.
type elector struct {
	id   string
	node string // empty: the state has no node with this server
	vote bool
	// lives: a node that is not judged dead.
	lives bool
	// ready: a living one that follows the state, so that its vote counts at once.
	ready bool
	// gone: dead, or without a node, for so long that it is not waited for.
	gone bool
}

// ruling is what is to be done about one server.
type ruling string

const (
	keepAll ruling = ""        // nothing
	expel   ruling = "remove"  // it is no node's
	promote ruling = "promote" // give it a vote
	demote  ruling = "demote"  // take its vote
)

// votes returns the one change that is due next, if any. It is a pure function
// that looks at servers by name; DESIGN.md gives its rules.
func votes(all []elector) (ruling, elector) {
	all = slices.SortedFunc(slices.Values(all), func(a, b elector) int {
		return cmp.Or(cmp.Compare(a.node, b.node), cmp.Compare(a.id, b.id))
	})
	first := func(wanted func(elector) bool) (elector, bool) {
		i := slices.IndexFunc(all, wanted)
		if i < 0 {
			return elector{}, false
		}
		return all[i], true
	}
	stray, strayed := first(func(e elector) bool { return e.gone && e.node == "" })
	dead, died := first(func(e elector) bool { return e.gone && e.vote })
	heir, ready := first(func(e elector) bool { return e.ready && !e.vote })
	voters, living, gone := count(all)
	switch {
	case strayed:
		return expel, stray
	// The dead one first: the newcomer's help is then not needed for anything.
	case died && ready:
		return demote, dead
	// With a voter missing, not if the newcomer could then stop the cluster.
	case ready && voters < mostVoters && (living == voters || living >= majority(voters+1)):
		return promote, heir
	case died && living >= 3 && spare(voters-gone, living) > spare(voters, living):
		return demote, dead
	}
	return keepAll, elector{}
}

// count counts voters, those that live, and those that are gone.
func count(all []elector) (voters, living, gone int) {
	for _, e := range all {
		if !e.vote {
			continue
		}
		voters++
		if e.lives {
			living++
		}
		if e.gone {
			gone++
		}
	}
	return voters, living, gone
}

// majority is how many of so many voters have to agree.
func majority(voters int) int { return voters/2 + 1 }

// spare is how many of the living voters may fail before the cluster stops.
func spare(voters, living int) int { return living - majority(voters) }
