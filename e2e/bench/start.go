package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"earshot/e2e/lab"
	"earshot/hashmode"
)

// startRuns is how often three nodes are started, cold and then warm.
const startRuns = 7

func startPart() part {
	return part{
		name: "start",
		doc:  "from the start of three agents to every bucket answered",
		run:  measureStart,
	}
}

func measureStart(ctx context.Context, r *rig) (table, error) {
	var cold, warm []float64
	for i := range startRuns {
		c, w, err := r.startOnce(ctx)
		if err != nil {
			return table{}, fmt.Errorf("run %d: %w", i+1, err)
		}
		cold, warm = append(cold, milliseconds(c)), append(warm, milliseconds(w))
	}
	return table{
		Columns: []column{
			{Name: "median", Unit: "ms"}, {Name: "max", Unit: "ms"},
			{Name: "median", Unit: "leases", digits: 1}, {Name: "max", Unit: "leases", digits: 1}, {Name: "runs"},
		},
		Rows: []row{startRow("cold: fresh data directories", cold), startRow("warm: after kill -9 of all", warm)},
		Notes: []string{
			fmt.Sprintf("A lease is %v. Seen from a client that asks in each of %d buckets, to within 10 ms.", lease, buckets),
			"It knows the cluster MAC beforehand: a client's own ARP retries are not measured.",
			"Warm starts begin once all leases have run out; all three processes start together.",
		},
	}, nil
}

func startRow(name string, ms []float64) row {
	l := milliseconds(lease)
	return row{Name: name, Samples: ms, Values: []figure{
		figure(median(ms)), figure(slices.Max(ms)), figure(median(ms) / l), figure(slices.Max(ms) / l), figure(len(ms)),
	}}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// startOnce starts a new cluster, kills it and starts it again.
func (r *rig) startOnce(ctx context.Context) (cold, warm time.Duration, err error) {
	c, err := r.cluster(hashmode.SourceIP, 1)
	if err != nil {
		return 0, 0, err
	}
	defer c.closeWith(&err)
	began := time.Now()
	if err := c.StartAll(); err != nil {
		return 0, 0, err
	}
	seed, err := c.seed(ctx)
	if err != nil {
		return 0, 0, err
	}
	s, err := newSweep(c.Clients[0], hashmode.Spec{Mode: hashmode.SourceIP, Buckets: buckets, Seed: seed})
	if err != nil {
		return 0, 0, err
	}
	defer s.close()
	if cold, err = s.finish(ctx, began); err != nil {
		return 0, 0, fmt.Errorf("cold start: %w", err)
	}
	if err := c.KillAll(); err != nil {
		return 0, 0, err
	}
	if err := s.silence(ctx); err != nil {
		return 0, 0, err
	}
	began = time.Now()
	if err := c.StartAll(); err != nil {
		return 0, 0, err
	}
	if warm, err = s.finish(ctx, began); err != nil {
		return 0, 0, fmt.Errorf("warm start: %w", err)
	}
	return cold, warm, nil
}

// seed waits until the service is defined and returns its hash seed. Before
// that, nobody can answer.
func (c *cluster) seed(ctx context.Context) (uint32, error) {
	var seed uint32
	err := lab.Poll(ctx, formLimit, func() error {
		for _, agent := range c.agents {
			s, err := agent.Status(ctx)
			if err != nil || len(s.Services) == 0 {
				continue
			}
			seed = s.Services[0].Seed
			return nil
		}
		return errors.New("no agent knows the service")
	})
	return seed, err
}
