package event

import (
	"errors"
	"testing"
	"time"
)

// many are n events.
func many(n int) []Event { return make([]Event, n) }

func listen(t *testing.T, h *Hub) *Listener {
	t.Helper()
	l, err := h.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func TestListenersGetAllInOrder(t *testing.T) {
	var h Hub
	h.Tell(time.Unix(1, 0), many(3)) // nobody listens yet
	one, two := listen(t, &h), listen(t, &h)
	h.Tell(time.Unix(2, 0), []Event{{Type: Fail}, {Type: Gain}})
	h.Tell(time.Unix(3, 0), []Event{{Type: Back}})
	for _, l := range []*Listener{one, two} {
		<-l.Wake()
		got := l.Take()
		if len(got) != 3 || got[0].Type != Fail || got[1].Type != Gain || got[2].Type != Back {
			t.Fatalf("got %+v", got)
		}
		for i, e := range got {
			if e.Seq != uint64(4+i) || e.Time.Unix() != int64(2+i/2) {
				t.Errorf("event %d: %+v", i, e)
			}
		}
		if again := l.Take(); len(again) != 0 {
			t.Errorf("taken twice: %+v", again)
		}
	}
}

// A slow listener keeps what it had, learns how much is missing, and goes on
// after it. The others notice nothing.
func TestSlowListenerIsToldWhatItMissed(t *testing.T) {
	var h Hub
	slow, quick := listen(t, &h), listen(t, &h)
	for range maxWaiting + 5 {
		h.Tell(time.Unix(1, 0), many(1))
		if got := quick.Take(); len(got) != 1 || got[0].Type == Missed {
			t.Fatalf("the quick one got %+v", got)
		}
	}
	got := slow.Take()
	if len(got) != maxWaiting+1 {
		t.Fatalf("got %d events", len(got))
	}
	last := got[maxWaiting]
	if last.Type != Missed || last.Missed != 5 || last.Seq != maxWaiting+5 || got[maxWaiting-1].Seq != maxWaiting {
		t.Errorf("after event %d: %+v", got[maxWaiting-1].Seq, last)
	}
	h.Tell(time.Unix(1, 0), many(1))
	if got := slow.Take(); len(got) != 1 || got[0].Seq != maxWaiting+6 {
		t.Errorf("got %+v", got)
	}
}

func TestNumberOfListenersIsBounded(t *testing.T) {
	var h Hub
	first := listen(t, &h)
	for range maxListeners - 1 {
		listen(t, &h)
	}
	if _, err := h.Listen(); !errors.Is(err, ErrListeners) {
		t.Fatalf("got %v", err)
	}
	first.Close()
	listen(t, &h)
}
