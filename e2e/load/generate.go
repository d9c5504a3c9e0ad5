package load

import (
	"context"
	"encoding/json"
	"io"
	"net/netip"
	"sync"
	"time"
)

// pace is the time between two looks at what is due.
const pace = 2 * time.Millisecond

// client asks once, from a source, and reports each request.
type client func(ctx context.Context, number int, source netip.Addr, report func(Record))

// generate is the generator process.
func generate(p Plan, leash io.Reader, out *json.Encoder) error {
	p, err := p.complete()
	if err != nil {
		return err
	}
	ask, err := p.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, leash) // until the parent lets go
		cancel()
	}()
	var mu sync.Mutex
	report := func(r Record) {
		mu.Lock()
		defer mu.Unlock()
		if err := out.Encode(r); err != nil {
			cancel() // nobody listens
		}
	}
	p.drive(ctx, func(number int) {
		ask(ctx, number, p.Sources[number%len(p.Sources)], report)
	})
	return nil
}

// client returns the client of the plan's kind.
func (p Plan) client() (client, error) {
	switch p.Kind {
	case Hold:
		return p.keep(byInterval, false, p.openHTTP), nil
	case WebSocket:
		return p.keep(byInterval, false, p.openSocket), nil
	case Keys:
		return p.keep(byInterval, false, p.openKeys), nil
	case Download, HalfClosed:
		return p.keep(byServer, false, p.openStream), nil
	case Flow:
		return p.keep(byInterval, true, p.openFlow), nil
	case UDP:
		return p.datagram, nil
	case ICMP:
		return p.pinger()
	default:
		return p.request, nil
	}
}

// drive starts clients at the plan's rate, whatever became of those before
// (an open loop), and waits for all of them.
func (p Plan) drive(ctx context.Context, start func(number int)) {
	var running sync.WaitGroup
	defer running.Wait()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	begin := time.Now()
	for number := 0; p.Count == 0 || number < p.Count; {
		due := 1 + int(time.Since(begin).Seconds()*float64(p.Rate))
		for ; number < due && (p.Count == 0 || number < p.Count); number++ {
			own := number // the loop's variable goes on
			running.Go(func() { start(own) })
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
