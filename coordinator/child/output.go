package child

import (
	"sync"
	"time"
)

// discardPace is how long one read of output that nobody keeps takes, 32 KiB:
// a program that writes without end must not keep the agent busy.
const discardPace = 5 * time.Millisecond

// output keeps the beginning of what is written to it.
type output struct {
	mu   sync.Mutex
	max  int
	data []byte
	cut  bool
}

func newOutput(limit int) *output { return &output{max: max(limit, 0)} }

// Write keeps what there is room for and takes its time over the rest.
func (o *output) Write(p []byte) (int, error) {
	if o.keep(p) < len(p) {
		<-time.After(discardPace)
	}
	return len(p), nil
}

func (o *output) keep(p []byte) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := min(len(p), o.max-len(o.data))
	o.data = append(o.data, p[:n]...)
	o.cut = o.cut || n < len(p)
	return n
}

// kept returns a copy of what has been kept so far, and whether that is not all.
func (o *output) kept() ([]byte, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]byte(nil), o.data...), o.cut
}
