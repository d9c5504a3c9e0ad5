package load

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Question is one question, as the witness saw it: a SYN, a datagram, an echo
// request.
type Question struct {
	Client, Server netip.AddrPort
	Asked          time.Time
	Times          int       // how often it was asked; TCP repeats itself
	Answered       time.Time // at first; zero: never
	Nodes          []string  // that answered
}

// String is one line for people.
func (q Question) String() string {
	wait := "never answered"
	if !q.Answered.IsZero() {
		wait = fmt.Sprintf("answered by %v after %v", q.Nodes, q.Answered.Sub(q.Asked).Round(time.Millisecond))
	}
	return fmt.Sprintf("%s to %s: asked %d times, at first %s, %s", q.Client, q.Server, q.Times, q.Asked.Format(time.StampMilli), wait)
}

// questions lists those of a kind, in the order in which they were asked.
func (l *ledger) questions(proto Proto) []Question {
	var all []Question
	for key, x := range l.exchanges {
		if key.proto == proto {
			all = append(all, Question{
				Client: key.client, Server: key.server, Asked: x.first, Times: x.times,
				Answered: x.answered, Nodes: slices.Sorted(maps.Keys(x.openings)),
			})
		}
	}
	slices.SortFunc(all, func(a, b Question) int {
		return cmp.Or(a.Asked.Compare(b.Asked), a.Client.Compare(b.Client))
	})
	return all
}

// Questions are all of a kind so far. A witness that has missed frames has none.
func (w *Witness) Questions(proto Proto) ([]Question, error) {
	if err := w.settle(); err != nil {
		return nil, fmt.Errorf("witness of %s: %w", w.client.Name, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ledger.questions(proto), nil
}
