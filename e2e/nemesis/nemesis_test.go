package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"earshot/coordinator"
	"earshot/e2e/lab"
	"earshot/e2e/load"
	"earshot/nft"

	"github.com/google/nftables"
)

func TestMain(m *testing.M) {
	os.Exit(lab.Program{Before: build, Run: m.Run, Roles: load.Roles()}.Main())
}

// build builds the program under test, unless another is named.
func build() error {
	if os.Getenv("EARSHOT_BIN") != "" {
		return nil
	}
	return lab.Build("../../" + lab.DefaultBin)
}

// testOptions are those of a short campaign with the seed, printed.
func testOptions(t *testing.T, seed uint64) options {
	t.Helper()
	o, err := parseOptions([]string{"-bound", "4"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.bin = os.Getenv("EARSHOT_BIN"); o.bin == "" {
		if o.bin, err = filepath.Abs("../../" + lab.DefaultBin); err != nil {
			t.Fatal(err)
		}
	}
	if seed != 0 {
		o.seed = seed
	}
	t.Logf("seed %d", o.seed)
	return o
}

// I1, I2: faults under load, and nothing that the judges object to.
func TestFaults(t *testing.T) {
	o := testOptions(t, 0)
	o.faults = 12
	var out bytes.Buffer
	err := attackFor(context.Background(), o, &out)
	t.Logf("%s", &out)
	if err != nil {
		t.Fatal(err)
	}
}

// I5: kill -9 of everything at random moments loses no acknowledged command.
func TestKillingEverything(t *testing.T) {
	o := testOptions(t, 0)
	o.kills = 20
	var out bytes.Buffer
	err := killLoop(context.Background(), o, &out)
	t.Logf("%s", &out)
	if err != nil {
		t.Fatal(err)
	}
}

// usurp has a node's kernel open flows in all buckets, as its agent never would.
func usurp(n *lab.Node) error {
	if err := n.Pause(); err != nil { // or it would be repaired
		return err
	}
	return n.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		for _, service := range []string{web, echo} {
			var all []nftables.SetElement
			for b := range uint32(buckets) {
				all = append(all, nftables.SetElement{Key: binary.NativeEndian.AppendUint32(nil, b)})
			}
			for family, suffix := range map[nftables.TableFamily]string{nftables.TableFamilyINet: "_own", nftables.TableFamilyNetdev: "_heard"} {
				set := &nftables.Set{Table: &nftables.Table{Family: family, Name: nft.TableName}, Name: service + suffix, KeyType: nftables.TypeMark}
				if err := c.SetAddElements(set, all); err != nil {
					return err
				}
			}
		}
		return c.Flush()
	})
}

// Both judges see a node that answers in the buckets of others, for as long as
// its lease lasts.
func TestJudgesObject(t *testing.T) {
	o := testOptions(t, 1)
	c, err := newCampaign(context.Background(), o, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	})
	err = c.strike(fault{name: "usurp", strike: func(a *attack) error {
		return errors.Join(usurp(a.Nodes[1]), a.pass(time.Second), a.Nodes[1].Resume())
	}})
	if !errors.Is(err, errJudged) || !strings.Contains(err.Error(), "both open flows in web") {
		t.Errorf("the kernels' judge: %v", err)
	}
	if err := c.hearWitness(); !errors.Is(err, errJudged) || !strings.Contains(err.Error(), "answered twice") {
		t.Errorf("the wire's judge: %v", err)
	}
	if err := c.ask(); err != nil {
		t.Fatal(err)
	}
	// All are paused, and nobody said that this may be. For long: what the machine
	// stalls is allowed for.
	err = c.strike(fault{name: "silence", strike: func(a *attack) error {
		for _, n := range a.Nodes {
			err = errors.Join(err, n.Pause())
		}
		return errors.Join(a.pass(5*c.o.bound()), a.Nodes[0].Resume(), a.Nodes[1].Resume(), a.Nodes[2].Resume())
	}})
	if !errors.Is(err, errJudged) || !strings.Contains(err.Error(), "no node opens flows in echo") {
		t.Errorf("the kernels' judge of a gap: %v", err)
	}
}

// An acknowledged command that is not there is found.
func TestOperatorFindsLoss(t *testing.T) {
	p := &operator{field: &field{}, pins: make([]wish, buckets)}
	p.pins[3].attempt("n1")
	p.pins[3].acknowledged()
	p.out = wish{sure: no}
	s := status(t, "7", "in")
	if err := p.lost(s); err == nil || !strings.Contains(err.Error(), `bucket 3 is pinned to ""`) {
		t.Error(err)
	}
	p.pins[3].found("")
	p.pins[7].attempt("n1")
	if err := p.lost(s); err != nil {
		t.Error(err)
	}
	if err := p.lost(status(t, "7", "out")); err == nil || !strings.Contains(err.Error(), "n3 is out") {
		t.Error(err)
	}
}

// Wrong use is said so; a seed is made up if there is none.
func TestOptions(t *testing.T) {
	if _, err := parseOptions([]string{"-nodes", "2"}, io.Discard); err == nil {
		t.Error("two nodes taken")
	}
	o, err := parseOptions([]string{"-minutes", "1"}, io.Discard)
	if err != nil || o.faults != 0 || o.seed == 0 || o.bound() != 900*time.Millisecond {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err := choose(faults(), "no such"); err == nil {
		t.Error("unknown fault taken")
	}
	if some, err := choose(faults(), "leader"); err != nil || len(some) != 2 {
		t.Errorf("%v, %v", some, err)
	}
}

// status is a cluster's whose web service has buckets pinned to n1.
func status(t *testing.T, pinned, state string) coordinator.Status {
	t.Helper()
	return coordinator.Status{
		Nodes: []coordinator.NodeStatus{{Name: "n1", State: "in"}, {Name: "n3", State: state}},
		Services: []coordinator.ServiceStatus{{Name: web, Buckets: buckets, Nodes: []coordinator.ShareStatus{
			{Name: "n1", Own: "0-63", Pinned: pinned}, {Name: "n3"},
		}}},
	}
}
