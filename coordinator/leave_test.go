package coordinator

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"earshot/hashmode"
	"earshot/raftstore"
)

// A node that stops while it takes buckets stops when it has: in those that it
// is taking, nobody would ask whose the flows are.
func TestLeavingNodeFinishesTaking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		h.join("a", 1)
		h.join("b", 1)
		h.define("web", 4)
		h.replan()
		kernel := &modelKernel{}
		s := runWith(t, h, kernel, nil)
		defer s.stop()
		s.spareTheSilent()
		s.news.learn(released("b", 1000))
		time.Sleep(time.Second)
		pin := &raftstore.Pin{Service: "web", Buckets: "0-3", Node: "a"}
		if err := s.executeOnce(t.Context(), raftstore.Command{Pin: pin}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
		if kernel.taking("web").Empty() {
			t.Fatal("nothing is being taken")
		}
		leaving, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		s.Leave(leaving)
		if got := kernel.taking("web"); !got.Empty() || leaving.Err() != nil {
			t.Errorf("%s are still being taken (%v)", got, leaving.Err())
		}
	})
}

// taking is what the kernel takes.
func (k *modelKernel) taking(service string) hashmode.Set {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.rules.Services {
		if s.Name == service {
			return s.Take
		}
	}
	return hashmode.Set{}
}
