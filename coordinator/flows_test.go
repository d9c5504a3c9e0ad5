package coordinator

import (
	"errors"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"earshot/hashmode"
	"earshot/nft"
)

type (
	openIn  = map[hashmode.Bucket]int
	begunIn = map[hashmode.Bucket]uint64
	loadOf  = map[hashmode.Bucket]float64
)

// A flow counts once in a round, be it short, long, or begun and still there.
func TestFlowsHadInARound(t *testing.T) {
	for name, c := range map[string]struct {
		before, now flowsSeen
		elapsed     time.Duration
		want        loadOf
	}{
		"short ones": {
			flowsSeen{begun: begunIn{1: 100, 2: 7}}, flowsSeen{begun: begunIn{1: 150, 2: 7}},
			loadRound, loadOf{1: 50},
		},
		"long ones, some of which began": {
			flowsSeen{open: openIn{1: 10}, begun: begunIn{1: 10}}, flowsSeen{open: openIn{1: 30}, begun: begunIn{1: 30}},
			loadRound, loadOf{1: 30},
		},
		"long ones that ended": {
			flowsSeen{open: openIn{1: 10}, begun: begunIn{1: 10}}, flowsSeen{open: openIn{1: 4}, begun: begunIn{1: 10}},
			loadRound, loadOf{1: 10},
		},
		"all kinds": {
			flowsSeen{open: openIn{1: 10}, begun: begunIn{1: 40}}, flowsSeen{open: openIn{1: 12}, begun: begunIn{1: 65}},
			loadRound, loadOf{1: 35},
		},
		"twice the time, half of them in a round": {
			flowsSeen{open: openIn{1: 10}, begun: begunIn{1: 10}}, flowsSeen{open: openIn{1: 10}, begun: begunIn{1: 50}},
			2 * loadRound, loadOf{1: 30},
		},
		"half the time": {
			flowsSeen{begun: begunIn{1: 10}}, flowsSeen{begun: begunIn{1: 50}},
			loadRound / 2, loadOf{1: 80},
		},
		"a counter that started anew": {
			flowsSeen{begun: begunIn{1: 1000}}, flowsSeen{begun: begunIn{1: 20}},
			loadRound, loadOf{1: 20},
		},
		"a bucket that came": {
			flowsSeen{begun: begunIn{}}, flowsSeen{open: openIn{1: 1}, begun: begunIn{1: 20}},
			loadRound, loadOf{1: 20},
		},
		"a bucket given away, with flows that stay": {
			flowsSeen{open: openIn{1: 5}, begun: begunIn{1: 20}}, flowsSeen{open: openIn{1: 3}, begun: begunIn{}},
			loadRound, loadOf{1: 5},
		},
		"a kernel that does not count": {
			flowsSeen{open: openIn{1: 5, 2: 1}}, flowsSeen{open: openIn{1: 3}},
			loadRound, loadOf{1: 3},
		},
		"more open than known of": { // conntrack believes in some again
			flowsSeen{begun: begunIn{1: 5}}, flowsSeen{open: openIn{1: 3}, begun: begunIn{1: 5}},
			loadRound, loadOf{1: 3},
		},
	} {
		if got := flowsHad(c.before, c.now, c.elapsed); !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// A node tells its load when it knows a round of it, for whichever leader
// asks, and whenever.
func TestFlowLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &modelKernel{}
		f := &flowLoad{kernel: k}
		service := nft.Service{Name: "web", Hash: hashmode.Spec{Buckets: 16, Seed: 1}}
		ask := func(when string, want loadOf) {
			t.Helper()
			got, err := f.BucketLoad([]nft.Service{service})
			if want == nil && errors.Is(err, errFirstLook) {
				return
			}
			if want == nil || err != nil || !maps.Equal(got["web"], want) {
				t.Errorf("%s: %v, %v; want %v", when, got, err, want)
			}
		}
		counted := func(begun begunIn) { k.begun = map[string]map[hashmode.Bucket]uint64{"web": begun} }
		counted(begunIn{1: 5000, 2: 0})
		ask("the first look", nil)
		time.Sleep(time.Second)
		counted(begunIn{1: 5010, 2: 0})
		ask("another leader, a second later", nil)
		time.Sleep(loadRound - time.Second)
		counted(begunIn{1: 5100, 2: 3})
		ask("a round", loadOf{1: 100, 2: 3})
		time.Sleep(loadRound/2 - time.Second)
		counted(begunIn{1: 5150, 2: 3})
		ask("another leader, soon", loadOf{1: 100, 2: 3})
		time.Sleep(loadRound/2 + time.Second)
		counted(begunIn{1: 5300, 2: 3})
		ask("a round after the last look", loadOf{1: 200})
		time.Sleep(2 * loadRound)
		counted(begunIn{1: 5400, 2: 43})
		ask("nobody asked for two rounds", loadOf{1: 50, 2: 20})
		time.Sleep(loadRound)
		counted(begunIn{2: 53})
		ask("one was overlooked", loadOf{2: 10})
		time.Sleep(loadRound)
		counted(begunIn{1: 5410, 2: 63})
		ask("and is there again", loadOf{1: 10, 2: 10})
		time.Sleep(loadRound)
		counted(begunIn{1: 8, 2: 70})
		ask("one has started anew", loadOf{1: 8, 2: 7})
		time.Sleep(loadRound)
		service.Hash.Seed = 2
		counted(begunIn{1: 20, 2: 90})
		ask("the buckets have other packets", nil)
		time.Sleep(loadRound)
		counted(begunIn{1: 25, 2: 90})
		ask("a round of these", loadOf{1: 5})
		k.begun, k.flows = nil, map[string]map[hashmode.Bucket]nft.FlowCount{"web": {3: {Active: 1, Closing: 2, Other: 3}}}
		time.Sleep(loadRound)
		ask("a kernel that does not count", loadOf{3: 6})
		time.Sleep(loadRound)
		counted(begunIn{1: 1_000_000})
		ask("one that counts again", nil)
	})
}
