package load

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Kind is a kind of client.
type Kind string

// The kinds.
const (
	// HTTP opens a new connection for each request, and closes it.
	HTTP Kind = "http"
	// Hold opens one connection per source and keeps asking on it. So do the
	// next five; each is asked a last time when the generator is stopped.
	Hold Kind = "hold"
	// WebSocket sends messages that come back.
	WebSocket Kind = "websocket"
	// Keys types on an interactive session, and waits for each key to show.
	Keys Kind = "keys"
	// Download receives without an end, and says nothing.
	Download Kind = "download"
	// HalfClosed is a Download of which the client has closed its side.
	HalfClosed Kind = "half-closed"
	// Flow asks by datagrams from one port: a UDP flow of many packets.
	Flow Kind = "flow"
	// UDP sends a datagram from a new port and listens for all answers.
	UDP Kind = "udp"
	// ICMP sends an echo request.
	ICMP Kind = "icmp"
)

// Plan says what a generator does.
type Plan struct {
	Kind    Kind
	Target  netip.AddrPort // ICMP: the port is ignored
	Path    string         // HTTP, Hold; default "/"
	Sources []netip.Addr   // asked from in turn
	// Rate of new connections or datagrams per second. Those that wait do not
	// hold up others. Of the kinds that stay open: at the start.
	Rate int
	// Count of connections or datagrams; 0: until stopped. Of the kinds that
	// stay open: default one per source.
	Count int
	// Bytes of each piece that Download and HalfClosed receive, one per
	// Interval; default 1000.
	Bytes int
	// Timeout of a request from its start; default 5 s.
	Timeout time.Duration
	// Interval between two requests on what stays open; default 100 ms.
	Interval time.Duration
	// Size of a datagram in bytes, if it is to be larger than it must. Above the
	// path's limit it goes in fragments. Answers are small.
	Size int
	// Linger is how long UDP and ICMP listen for second answers; default 50 ms.
	Linger time.Duration
}

// complete fills in the defaults.
func (p Plan) complete() (Plan, error) {
	if len(p.Sources) == 0 || p.Rate < 1 || !p.Target.Addr().IsValid() {
		return p, errors.New("a plan needs sources, a rate and a target")
	}
	if p.Path == "" {
		p.Path = "/"
	}
	if p.Timeout == 0 {
		p.Timeout = 5 * time.Second
	}
	if p.Interval == 0 {
		p.Interval = 100 * time.Millisecond
	}
	if p.Linger == 0 {
		p.Linger = 50 * time.Millisecond
	}
	if p.Bytes == 0 {
		p.Bytes = 1000
	}
	if p.stays() && p.Count == 0 {
		p.Count = len(p.Sources)
	}
	return p, nil
}

// stays reports whether what the plan opens stays open.
func (p Plan) stays() bool {
	return slices.Contains([]Kind{Hold, WebSocket, Keys, Download, HalfClosed, Flow}, p.Kind)
}

// Failure is the kind of a request's failure; empty: none.
type Failure string

// The kinds of failure.
const (
	Refused Failure = "refused" // a reset in answer to the SYN, or ICMP unreachable
	Reset   Failure = "reset"   // a reset later on
	Timeout Failure = "timeout"
	Other   Failure = "other"
)

// Record is one request.
type Record struct {
	Start   time.Time
	Latency time.Duration // from the start to the whole answer, or to the failure
	Client  netip.AddrPort
	Node    string  `json:",omitempty"` // that answered; ICMP: unknown, see Witness
	Failure Failure `json:",omitempty"`
	Detail  string  `json:",omitempty"` // of the failure, for people
	Answers int     // UDP and ICMP: how many came
}

// fail notes an error.
func (r *Record) fail(err error) {
	r.Failure, r.Detail = classify(err), err.Error()
}

// classify tells failures apart by errno.
func classify(err error) Failure {
	timeout, isNet := errors.AsType[net.Error](err)
	switch {
	case err == nil:
		return ""
	case errors.Is(err, unix.ECONNREFUSED):
		return Refused
	case errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE):
		return Reset
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, unix.ETIMEDOUT), isNet && timeout.Timeout():
		return Timeout
	}
	return Other
}
