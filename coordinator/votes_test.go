package coordinator

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The members of a table: V a voter, n one without a vote; ready, or ~ alive
// and behind, ! dead since a moment, x dead for long; ? is a voter without a
// node, new, and @ one that has been there for long.
func electors(text string) []elector {
	var all []elector
	for i, word := range strings.Fields(text) {
		e := elector{id: fmt.Sprint("id", i), node: fmt.Sprint("n", i), vote: word[0] == 'V', lives: true, ready: true}
		switch word[1:] {
		case "~":
			e.ready = false
		case "!":
			e.lives, e.ready = false, false
		case "x":
			e.lives, e.ready, e.gone = false, false, true
		case "?":
			e.node, e.lives, e.ready = "", false, false
		case "@":
			e.node, e.lives, e.ready, e.gone = "", false, false, true
		}
		all = append(all, e)
	}
	return all
}

func TestVotes(t *testing.T) {
	for _, c := range []struct {
		what, all string
		want      ruling
		whose     int
	}{
		{"nothing to do", "V V V", keepAll, 0},
		{"a vote for each of five", "V V V n", promote, 3},
		{"and no more", "V V V V V n", keepAll, 0},
		{"not for one that lags", "V V V n~", keepAll, 0},
		{"not for a dead one", "V V V n!", keepAll, 0},
		{"a spare node is no help before the dead one is given up", "V V V! n", keepAll, 0},
		{"a fifth is one, whether it lives or not", "V V V V! n", promote, 4},
		{"a dead voter is waited for", "V V V V V! n", keepAll, 0},
		{"then its vote moves: taken first", "V V V V Vx n", demote, 4},
		{"and given", "V V V V nx n", promote, 5},
		{"not while nobody can have it", "V V V V Vx n~", keepAll, 0},
		{"three voters, one dead, a spare node", "V V Vx n", demote, 2},
		{"then the spare node votes", "V V nx n", promote, 3},
		{"two of three keep the dead one's chair: without it two would still be needed", "V V Vx", keepAll, 0},
		{"two of two", "V Vx", keepAll, 0},
		{"three of four: two would then do", "V V V Vx", demote, 3},
		{"four of five: three are needed with or without it", "V V V V Vx", keepAll, 0},
		{"three of five: one after the other", "V V V Vx Vx", demote, 3},
		{"and the other", "V V V nx Vx", demote, 4},
		{"one of two dead of five may come back", "V V V Vx V!", keepAll, 0},
		{"who is back votes again", "V V V n Vx", demote, 4},
		{"and then", "V V V n nx", promote, 3},
		{"a join under way", "V V V?", keepAll, 0},
		{"a join that broke off", "V V V@", expel, 2},
		{"a forgotten one without a vote", "V V V n@", expel, 3},
	} {
		t.Run(c.what, func(t *testing.T) {
			what, who := votes(electors(c.all))
			if what != c.want || what != keepAll && who.id != fmt.Sprint("id", c.whose) {
				t.Errorf("%s: %q of %s, want %q of id%d", c.all, what, who.id, c.want, c.whose)
			}
		})
	}
}

// after carries a ruling out.
func after(all []elector, what ruling, who elector) []elector {
	var next []elector
	for _, e := range all {
		if e.id == who.id {
			if what == expel {
				continue
			}
			e.vote = what == promote
		}
		next = append(next, e)
	}
	return next
}

// In every cluster that has a majority, votes come to rest, and on the way no
// step takes the majority or what may fail next, or the vote of one that lives.
func TestVotesNeverCostWhatMayFail(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.SampledFrom([]string{"V", "V", "V~", "V!", "Vx", "V?", "V@", "n", "n", "n~", "n!", "nx", "n@"})
		all := electors("V " + strings.Join(rapid.SliceOfN(word, 0, 9).Draw(t, "servers"), " "))
		voters, living, _ := count(all)
		if spare(voters, living) < 0 {
			t.Skip("nobody leads")
		}
		for step := 0; ; step++ {
			what, who := votes(all)
			if what == keepAll {
				break
			}
			if step > 20 {
				t.Fatalf("no end: %+v", all)
			}
			if what != promote && who.lives || what == promote && !who.ready {
				t.Fatalf("%s %+v", what, who)
			}
			next := after(all, what, who)
			nextVoters, nextLiving, _ := count(next)
			if spare(nextVoters, nextLiving) < spare(voters, living) && what != promote {
				t.Fatalf("%s %s: %d of %d voters live, then %d of %d", what, who.id, living, voters, nextLiving, nextVoters)
			}
			if spare(nextVoters, nextLiving) < 0 || nextVoters > mostVoters && nextVoters > voters {
				t.Fatalf("%s %s: %d of %d voters live", what, who.id, nextLiving, nextVoters)
			}
			// With a voter missing, nothing hangs on the newcomer.
			if what == promote && spare(nextVoters, nextLiving-1) < 0 && living < voters {
				t.Fatalf("promote %s: needed at once: %d of %d voters live", who.id, nextLiving, nextVoters)
			}
			all, voters, living = next, nextVoters, nextLiving
		}
		for _, e := range all {
			if e.ready && !e.vote && voters < mostVoters && living == voters {
				t.Fatalf("%s has no vote, %d voters: %+v", e.id, voters, all)
			}
			if e.gone && e.node == "" {
				t.Fatalf("%s is nobody's", e.id)
			}
		}
	})
}
