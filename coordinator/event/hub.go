package event

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// maxWaiting is how many events a listener may leave waiting.
	maxWaiting = 1024
	// maxListeners bounds what all of them together can hold.
	maxListeners = 64
)

// ErrListeners: nobody else can listen.
var ErrListeners = errors.New("too many listeners")

// Hub brings events to listeners. Telling never waits for a listener. The zero
// Hub is ready.
type Hub struct {
	mu        sync.Mutex
	seq       uint64
	listeners map[*Listener]struct{}
}

// Listener gets events. One that is too slow misses some, and is told.
type Listener struct {
	hub  *Hub
	wake chan struct{}
	// Guarded by the hub's lock.
	waiting []Event
	missed  uint64
}

// Listen begins to listen. Close must follow.
func (h *Hub) Listen() (*Listener, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.listeners) >= maxListeners {
		return nil, fmt.Errorf("%w: %d listen already", ErrListeners, maxListeners)
	}
	if h.listeners == nil {
		h.listeners = map[*Listener]struct{}{}
	}
	l := &Listener{hub: h, wake: make(chan struct{}, 1)}
	h.listeners[l] = struct{}{}
	return l, nil
}

// Tell numbers the events and hands them to every listener.
func (h *Hub) Tell(now time.Time, events []Event) {
	if len(events) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range events {
		h.seq++
		e.Seq, e.Time = h.seq, now
		for l := range h.listeners {
			l.put(e)
		}
	}
	for l := range h.listeners {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// put keeps an event for the listener. The oldest ones stay, so that what it
// reads is whole up to the gap.
func (l *Listener) put(e Event) {
	if len(l.waiting) < maxWaiting {
		l.waiting = append(l.waiting, e)
		return
	}
	l.missed++
}

// Wake is signalled when there is something to take.
func (l *Listener) Wake() <-chan struct{} { return l.wake }

// Take returns what waits, in order. What is missing after it is a last event
// of its own, with the number of the last one that is missing.
func (l *Listener) Take() []Event {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	events := l.waiting
	if l.missed > 0 {
		events = append(events, Event{Seq: l.hub.seq, Time: time.Now(), Type: Missed, Missed: l.missed})
	}
	l.waiting, l.missed = nil, 0
	return events
}

// Close ends the listening.
func (l *Listener) Close() {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	delete(l.hub.listeners, l)
}
