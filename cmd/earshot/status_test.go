package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"earshot/coordinator"
)

// --watch outlives an agent that is restarted, and ends with its context.
func TestWatchStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ask := func(context.Context) (coordinator.Status, error) {
			if second := time.Since(start) / time.Second; second != 1 {
				return coordinator.Status{Cluster: coordinator.ClusterStatus{Epoch: uint64(second)}}, nil
			}
			return coordinator.Status{}, coordinator.ErrNoAgent
		}
		show := func(w io.Writer, s coordinator.Status) error {
			_, err := fmt.Fprintf(w, "epoch %d\n", s.Cluster.Epoch)
			return err
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*watchInterval+watchInterval/2)
		defer cancel()
		var out bytes.Buffer
		if err := watchStatus(ctx, ask, &screen{w: &out, apart: true}, show); err != nil {
			t.Fatal(err)
		}
		if want := "epoch 0\n\nno agent at the socket; trying again\n\nepoch 2\n"; out.String() != want {
			t.Errorf("got %q\nwant %q", out.String(), want)
		}
	})
}

// On a terminal each text takes the place of the one before, whole: a line
// that was longer and lines that are no more are cleared.
func TestScreenRedraws(t *testing.T) {
	var out bytes.Buffer
	s := screen{w: &out, redraw: true}
	for _, text := range []string{"long line\nsecond\n", "short\n"} {
		if err := s.draw(func(w io.Writer) error { _, err := io.WriteString(w, text); return err }); err != nil {
			t.Fatal(err)
		}
	}
	want := "\x1b[2J\x1b[Hlong line\x1b[K\nsecond\x1b[K\n\x1b[J" + "\x1b[Hshort\x1b[K\n\x1b[J"
	if out.String() != want {
		t.Errorf("got %q", out.String())
	}
}

// With --watch, each status is one line of JSON.
func TestStatusJSONLines(t *testing.T) {
	var out bytes.Buffer
	if err := writeStatusJSON(&out, threeNodes(), false); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "\n"); n != 1 {
		t.Errorf("%d lines", n)
	}
}

// Interrupted while the agent is asked, it ends and shows no error.
func TestWatchStatusInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	ask := func(ctx context.Context) (coordinator.Status, error) {
		interrupt()
		return coordinator.Status{}, ctx.Err()
	}
	var out bytes.Buffer
	err := watchStatus(ctx, ask, &screen{w: &out}, func(io.Writer, coordinator.Status) error { return nil })
	if err != nil || out.Len() > 0 {
		t.Errorf("error %v, output %q", err, &out)
	}
}
