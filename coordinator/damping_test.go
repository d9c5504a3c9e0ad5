package coordinator

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"earshot/hashmode"
	"earshot/raftstore"
)

// someDamping is that of the tests.
func someDamping() Damping {
	return Damping{Mature: 5 * time.Second, Round: time.Second, MovesPerRound: 8}
}

// A hundred changes of health per second on each of four nodes, for a minute,
// and two nodes die meanwhile: no node is lost to the service more than five
// times (the sixth could come 75 s after the first at the earliest), no bucket
// moves more often for evenness than the damping allows, and a death takes no
// longer than without all that.
func TestHealthThatFlapsMovesLittleAndDelaysNoFailover(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := perform(t, 5, 64, someDamping())
				defer p.stop()
				dice := seeded(seed)
				time.Sleep(startGrace*p.timing.Lease + 5*time.Second)
				began := len(p.logged())
				die := map[int]string{2000: "b", 4000: "c"}
				for i := range 6000 {
					for _, name := range p.names() {
						p.setIll(name, "web", dice.IntN(2) == 0)
					}
					if name := die[i]; name != "" {
						p.kill(name)
					}
					time.Sleep(10 * time.Millisecond)
				}
				p.checkDeaths("b", "c")
				p.checkPace()
				p.checkCalm()
				for name, n := range losses(p.logged()[began:]) {
					if n > 5 {
						t.Errorf("%s was lost to the service %d times in a minute", name, n)
					}
				}
				changes := 0
				for _, e := range p.logged()[began:] {
					if e.command.Fitness != nil {
						changes++
					}
				}
				if changes == 0 || changes > 60 {
					t.Errorf("%d changes of health were committed", changes)
				}
				t.Logf("%d changes of health committed, losses %v", changes, losses(p.logged()[began:]))
			})
		})
	}
}

// checkDeaths demands that each of the nodes was judged no later than by its
// lease, and that its buckets had a living owner at once.
func (p *troupe) checkDeaths(names ...string) {
	p.t.Helper()
	judged := map[string]bool{}
	for _, e := range p.logged() {
		if e.command.Death == nil {
			continue
		}
		name := e.command.Death.Node
		judged[name] = true
		// Two steps of the leader, and the time of a probe.
		limit := p.timing.patience(p.timing.Lease) + p.timing.Renew + p.timing.Gather
		if took := e.at.Sub(p.players[name].renewed); took > limit {
			p.t.Errorf("%s was judged %v after its last renewal, more than %v", name, took, limit)
		}
		if took := p.inherited(name, e.at); took > 3*p.timing.Renew {
			p.t.Errorf("the buckets of %s waited %v for an owner", name, took)
		}
	}
	for _, name := range names {
		if !judged[name] {
			p.t.Errorf("%s was not judged", name)
		}
	}
}

// inherited is how long after its death the last bucket of a node had another
// owner. With nobody who serves, that takes the next renewal of one who does.
func (p *troupe) inherited(name string, death time.Time) time.Duration {
	for _, e := range p.logged() {
		owns := slices.ContainsFunc(e.after.Services["web"].Map, func(s raftstore.Slot) bool { return s.Owner == name })
		if !e.at.Before(death) && !owns {
			return e.at.Sub(death)
		}
	}
	return time.Hour
}

// Nodes die, come back and fall ill at random: no round moves more than it
// may, nothing is evened out in the middle of a failure, and no bucket waits.
func TestRandomHistoriesKeepThePace(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := perform(t, 5, 64, someDamping())
				defer p.stop()
				dice := seeded(seed)
				time.Sleep(startGrace * p.timing.Lease)
				for range 60 {
					name := p.names()[1+dice.IntN(4)]
					switch dice.IntN(4) {
					case 0:
						if p.living() > 2 {
							p.kill(name)
						}
					case 1, 2:
						p.revive(name)
					default:
						p.setIll(name, "web", dice.IntN(3) == 0)
					}
					time.Sleep(time.Duration(dice.IntN(8000)) * time.Millisecond)
					time.Sleep(3 * p.timing.Lease)
					p.checkOwners()
				}
				p.checkPace()
				p.checkCalm()
				if len(evenings(p.logged())) == 0 {
					t.Error("nothing was ever evened out: the test shows nothing")
				}
			})
		})
	}
}

// living counts the nodes that live, the leader among them.
func (p *troupe) living() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 1
	for _, me := range p.players {
		if me.alive {
			n++
		}
	}
	return n
}

// A node that fails again and again is kept out twice as long each time, and
// the status says until when. Good conduct has it forgotten.
func TestNodeThatFlapsIsKeptOutLongerEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := perform(t, 3, 30, someDamping())
		defer p.stop()
		time.Sleep(startGrace*p.timing.Lease + 5*time.Second)
		for i, hold := range []time.Duration{5, 10, 20} {
			hold *= time.Second
			p.kill("b")
			time.Sleep(time.Second)
			p.revive("b")
			came := time.Now()
			time.Sleep(500 * time.Millisecond)
			s := p.c.status(t.Context())
			n, share := s.Nodes[1], s.Services[0].Nodes[1]
			if left := time.Duration(n.HeldMS) * time.Millisecond; left < hold-time.Second || left > hold {
				t.Errorf("failure %d: held for %v more, not for %v", i+1, left, hold)
			}
			until, err := time.Parse(time.RFC3339, n.HeldUntil)
			if err != nil || until.Sub(came.Add(hold)).Abs() > time.Second {
				t.Errorf("failure %d: held until %q, %v, not %v", i+1, n.HeldUntil, err, came.Add(hold))
			}
			if share.HeldUntil != n.HeldUntil || share.Why == "" || n.Losses != i+1 {
				t.Errorf("failure %d: %d losses, share %+v", i+1, n.Losses, share)
			}
			p.hasBuckets("b", false)
			time.Sleep(hold - time.Second)
			p.hasBuckets("b", false)
			time.Sleep(time.Second + 5*time.Second) // and some rounds
			p.hasBuckets("b", true)
		}
		time.Sleep(forgiveAfter * (20 + 10 + 5 + 1) * time.Second)
		if n := p.modelStore.State().Nodes["b"]; n.Losses != nil {
			t.Errorf("losses are not forgotten: %v", n.Losses)
		}
	})
}

// hasBuckets demands that a node has buckets, or none.
func (p *troupe) hasBuckets(name string, some bool) {
	p.t.Helper()
	has := 0
	for _, slot := range p.modelStore.State().Services["web"].Map {
		if slot.Owner == name {
			has++
		}
	}
	if has > 0 != some {
		p.t.Errorf("%s has %d buckets", name, has)
	}
}

func TestHoldsDoubleUpToABound(t *testing.T) {
	d := someDamping()
	for losses, want := range []time.Duration{5, 5, 10, 20, 40, 80, 160, 320, 320} {
		if got := d.hold(losses); got != want*time.Second {
			t.Errorf("%d losses: %v, not %v", losses, got, want*time.Second)
		}
	}
	if d.holdOfService(1, true) != 0 || d.holdOfService(1, false) != 5*time.Second || d.holdOfService(2, true) != 5*time.Second {
		t.Error("a service without a node waits")
	}
	if (Damping{}).hold(8) != 0 {
		t.Error("no damping is some")
	}
}

func TestOperatorBringsAHeldNodeIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := perform(t, 3, 30, someDamping())
		defer p.stop()
		time.Sleep(startGrace*p.timing.Lease + 5*time.Second)
		p.kill("b")
		time.Sleep(time.Second)
		p.revive("b")
		time.Sleep(2 * time.Second)
		p.hasBuckets("b", false)
		if _, err := p.c.wish(t.Context(), WishRequest{Node: "b"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		p.hasBuckets("b", true)
	})
}

// Nodes that form a cluster need not prove themselves, a later one must.
func TestFormationDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		h.join("a", 1)
		h.define("web", 30)
		p := performWith(t, h, someDamping(), func(hashmode.Bucket) float64 { return 0 })
		defer p.stop()
		time.Sleep(2 * time.Second)
		p.join("b")
		time.Sleep(time.Second)
		p.hasBuckets("b", true)
		if p.modelStore.State().Formed {
			t.Fatal("formed though a node has just come")
		}
		time.Sleep(6 * time.Second)
		if !p.modelStore.State().Formed {
			t.Fatal("not formed")
		}
		p.join("c")
		time.Sleep(4 * time.Second)
		p.hasBuckets("c", false)
		time.Sleep(4 * time.Second)
		p.hasBuckets("c", true)
	})
}

// A service whose nodes were all ill has the first that is well at once, and a
// dead owner's buckets do not wait for anybody to prove himself.
func TestNoBucketWaitsForProbation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := perform(t, 3, 30, someDamping())
		defer p.stop()
		time.Sleep(startGrace*p.timing.Lease + 5*time.Second)
		for _, name := range []string{"a", "b", "c"} {
			p.setIll(name, "web", true)
		}
		p.c.tenant.renewNow()
		time.Sleep(time.Second)
		p.setIll("b", "web", false)
		time.Sleep(200 * time.Millisecond)
		p.owns("b", 30)
		// b is ill again, and c, which was lost but once, is well: at once, too.
		p.setIll("b", "web", true)
		time.Sleep(200 * time.Millisecond)
		p.setIll("c", "web", false)
		time.Sleep(200 * time.Millisecond)
		p.owns("c", 30)
		// Both have flapped now: they wait, while c has its buckets still.
		p.setIll("c", "web", true)
		time.Sleep(200 * time.Millisecond)
		p.setIll("b", "web", false)
		p.setIll("c", "web", false)
		time.Sleep(2 * time.Second)
		if st := p.modelStore.State(); st.Nodes["b"].Serves("web") || st.Nodes["c"].Serves("web") {
			t.Error("nodes that flap serve again before their time")
		}
		// The death of c gives them to b, held or not.
		p.kill("c")
		time.Sleep(p.timing.patience(p.timing.Lease) + 4*p.timing.Renew)
		p.owns("b", 30)
	})
}

// A node falls silent while shares are being evened out: that stops at once.
func TestNothingIsEvenedOutWhileANodeIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := Damping{Mature: 5 * time.Second, Round: 20 * time.Millisecond, MovesPerRound: 1}
		p := perform(t, 3, 900, d)
		defer p.stop()
		time.Sleep(startGrace*p.timing.Lease + 5*time.Second)
		p.join("d")
		if _, err := p.c.wish(t.Context(), WishRequest{Node: "d"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
		p.kill("c")
		died := time.Now()
		time.Sleep(5 * time.Second)
		before, deadline := 0, died.Add(p.timing.Lease/2+2*p.timing.Renew)
		var death time.Time
		for _, e := range p.logged() {
			if e.command.Death != nil {
				death = e.at
			}
			switch n := len(evenings([]entry{e})); {
			case e.at.Before(deadline):
				before += n
			case death.IsZero() && n > 0:
				t.Errorf("%d buckets moved %v after c fell silent", n, e.at.Sub(died))
			}
		}
		if before == 0 || death.IsZero() {
			t.Errorf("%d moves before the death, at %v: the test shows nothing", before, death)
		}
		p.checkCalm()
	})
}

func (p *troupe) owns(name string, want int) {
	p.t.Helper()
	has := 0
	for _, slot := range p.modelStore.State().Services["web"].Map {
		if slot.Owner == name {
			has++
		}
	}
	if has != want {
		p.t.Fatalf("%s has %d buckets, not %d", name, has, want)
	}
}

// Another leader counts a hold anew, from when it has heard the node, and
// knows how often the node was lost.
func TestHoldOutlivesTheLeader(t *testing.T) {
	d := someDamping()
	st := raftstore.NewState()
	n := raftstore.Node{Name: "b", Held: true, Losses: map[string]int{"": 3}}
	st.Nodes["b"] = n
	now := time.Now()
	var c conduct
	c.hear(now, renewal{Process: 1}, 0, time.Time{})
	if got := c.heldUntil(n, d).Sub(now); got != 20*time.Second {
		t.Errorf("held for %v after three losses", got)
	}
	c.hear(now.Add(time.Second), renewal{Process: 1}, 1, now.Add(time.Minute))
	if !c.since.Equal(now) {
		t.Error("a renewal in time counts as a break")
	}
	c.hear(now.Add(2*time.Second), renewal{Process: 2}, 1, now.Add(time.Minute))
	if c.since.Equal(now) {
		t.Error("another process counts as no break")
	}
}
