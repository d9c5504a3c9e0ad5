package coordinator

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"earshot/coordinator/doctor"
	"earshot/nft"
)

const (
	// hearWindow is how long all nodes send and listen: long beside the time
	// that the question takes to reach them.
	hearWindow = 1200 * time.Millisecond
	// hearLimit is how long a node may take beyond that, for its own probe.
	hearLimit = 8 * time.Second
	// mostHearing is how many examinations a node takes part in at a time.
	mostHearing = 4
)

// Ears listen to the segments of this node's services.
type Ears interface {
	// Run listens for queriers on the interfaces until ctx ends.
	Run(ctx context.Context, interfaces []string) error
	// Hear exchanges test frames with other nodes.
	Hear(ctx context.Context, q nft.Question) []nft.Heard
	// Probe looks at this node's kernel and settings.
	Probe(services []nft.Service) []nft.Finding
}

// Examination is the answer to `earshot check`'s question to the agent.
type Examination struct {
	Node    string          `json:"node"` // that was asked
	Reports []doctor.Report `json:"reports"`
}

// hearRequest asks a node to take part in an examination.
type hearRequest struct {
	Nonce  uint64        `json:"nonce"`
	Window time.Duration `json:"window"`
}

var (
	errBusy = errors.New("this node takes part in several examinations already")
	errDeaf = errors.New("this node has no ears")
)

// listenQueriers keeps the ears open.
func (c *Coordinator) listenQueriers(ctx context.Context) error {
	if c.cfg.Ears == nil {
		return nil
	}
	var interfaces []string
	for _, d := range c.cfg.Services {
		interfaces = append(interfaces, d.Interface)
	}
	slices.Sort(interfaces)
	return c.cfg.Ears.Run(ctx, slices.Compact(interfaces))
}

// examine has all nodes that should answer send test frames to the cluster
// MACs, and listen for each other's, at the same time.
func (c *Coordinator) examine(ctx context.Context, _ struct{}) (Examination, error) {
	ctx, cancel := context.WithTimeout(ctx, hearWindow+hearLimit)
	defer cancel()
	ask := hearRequest{Nonce: rand.Uint64(), Window: hearWindow}
	st := c.store.State()
	e := Examination{Node: c.cfg.Node}
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, name := range st.NodeNames() {
		n := st.Nodes[name]
		if n.Witness || n.Failed {
			continue // it answers nobody
		}
		asking.Go(func() {
			var r doctor.Report
			var err error
			if name == c.cfg.Node {
				r, err = c.hear(ctx, ask)
			} else {
				err = c.peers.Call(ctx, n.Listen, pathHear, ask, &r)
			}
			r.Node = name
			if err != nil {
				r.Error = err.Error()
			}
			mu.Lock()
			defer mu.Unlock()
			e.Reports = append(e.Reports, r)
		})
	}
	asking.Wait()
	return e, nil
}

// hear is this node's part in an examination.
func (c *Coordinator) hear(ctx context.Context, r hearRequest) (doctor.Report, error) {
	if c.cfg.Ears == nil {
		return doctor.Report{}, errDeaf
	}
	if c.hearing.Add(1) > mostHearing {
		c.hearing.Add(-1)
		return doctor.Report{}, errBusy
	}
	defer c.hearing.Add(-1)
	services := c.services()
	report := doctor.Report{Node: c.cfg.Node}
	if r.Window <= 0 {
		return report, &RemoteError{Message: fmt.Sprintf("window %v: must be longer than nothing", r.Window), Misuse: true}
	}
	report.Problems = c.problems()
	report.Heard = c.cfg.Ears.Hear(ctx, nft.Question{Node: c.cfg.Node, Nonce: r.Nonce, Window: r.Window, Services: services})
	for _, f := range c.cfg.Ears.Probe(services) {
		if f.Severity != nft.OK {
			report.Findings = append(report.Findings, doctor.FromKernel(f))
		}
	}
	return report, nil
}
