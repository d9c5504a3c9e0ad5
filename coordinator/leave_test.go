package coordinator

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"earshot/raftstore"
)

// A node that stops while it takes buckets stops when it has: in those that it
// is taking, nobody would ask whose the flows are.
func TestLeavingNodeFinishesTaking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := twoWithChecks(t, raftstore.OnFailDrain)
		defer s.stop()
		pin := &raftstore.Pin{Service: "web", Buckets: "0-3", Node: "a"}
		if err := s.executeOnce(t.Context(), raftstore.Command{Pin: pin}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
		if s.kernel.service("web").Take.Empty() {
			t.Fatal("nothing is being taken")
		}
		leaving, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		s.Leave(leaving)
		if got := s.kernel.service("web").Take; !got.Empty() || leaving.Err() != nil {
			t.Errorf("%s are still being taken (%v)", got, leaving.Err())
		}
	})
}
