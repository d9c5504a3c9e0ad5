package coordinator

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"earshot/coordinator/event"
)

// ErrStreamEnded: the agent ended, and with it its events.
var ErrStreamEnded = errors.New("the agent has ended")

// streamEvents writes each event as a line of JSON until the asker is gone.
func (c *Coordinator) streamEvents(w http.ResponseWriter, r *http.Request) {
	listener, err := c.events.Listen()
	if err != nil {
		refuse(w, err)
		return
	}
	defer listener.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	for {
		if out.Flush() != nil { // at once: the asker waits for the headers
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-listener.Wake():
		}
		for _, e := range listener.Take() {
			if e.By == "" { // a gap
				e.By = c.cfg.Node
			}
			if enc.Encode(e) != nil {
				return
			}
		}
	}
}

// Events calls f with each event from now on, until f or the agent ends it. It
// calls ready, if there is one, when nothing can be missed any more.
func (c *Client) Events(ctx context.Context, ready func(), f func(event.Event) error) error {
	resp, err := c.send(ctx, http.MethodGet, "/v1/events", nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return decodeAnswer(resp, nil)
	}
	defer resp.Body.Close()
	if ready != nil {
		ready()
	}
	dec := json.NewDecoder(bufio.NewReader(resp.Body))
	for {
		var e event.Event
		err := dec.Decode(&e)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return ErrStreamEnded
		case err != nil:
			return fmt.Errorf("read events: %w", err)
		}
		if err := f(e); err != nil {
			return err
		}
	}
}
