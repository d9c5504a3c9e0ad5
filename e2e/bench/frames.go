package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// frameRounds is how often every way gets its frames.
	frameRounds = 41
	// frameBurst is how many frames a way gets in a round, after as many for
	// warming up as its caches need.
	frameBurst  = 16 * frameChunk
	frameWarmup = 2 * frameChunk
	// frameNodes is the size of the cluster that the ways belong to: a node
	// has a third of what there is.
	frameNodes = 3
	// framePool is how many different clients there are.
	framePool = 16384
)

func framesPart() part {
	return part{
		name: "frames",
		doc:  "ns per foreign and per own frame in the kernel, beside xt_cluster and Pacemaker's rules",
		run:  measureFrames,
		// Ten seconds; without a realtime priority, on a busy machine, more.
		limit: func(options) time.Duration { return time.Minute },
	}
}

// measureFrames sends the same kind of frames to nodes with different rules.
func measureFrames(ctx context.Context, r *rig) (t table, err error) {
	f, notes, err := newFrameLab(ctx)
	if err != nil {
		return table{}, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	realtime, err := f.measure(ctx)
	if err != nil {
		return table{}, err
	}
	if !realtime {
		notes = append(notes, "WITHOUT a realtime priority, which this user may not have: other processes disturb the figures.")
	}
	t = f.table()
	t.Notes = append(t.Notes, notes...)
	return t, nil
}

// frameKind says for whom a frame is.
type frameKind int

const (
	foreignFrames frameKind = iota
	ownFrames
	frameKinds
)

func (k frameKind) String() string { return [...]string{"foreign", "own"}[k] }

// measure runs the rounds. Each begins with another way. It reports whether
// they ran undisturbed by ordinary processes.
func (f *frameLab) measure(ctx context.Context) (realtime bool, err error) {
	err = f.senders.Do(func() error {
		realtime = becomeRealtime() == nil
		defer becomeOrdinary()
		for round := range frameRounds {
			for i := range f.ways {
				w := f.ways[(i+round)%len(f.ways)]
				for kind := range frameKinds {
					if w.sends[kind] == nil {
						continue
					}
					took, err := w.burst(kind)
					if err != nil {
						return fmt.Errorf("%s, %s frames: %w", w.name, kind, err)
					}
					w.took[kind] = append(w.took[kind], took)
				}
				if ctx.Err() != nil {
					return ctx.Err()
				}
			}
		}
		return nil
	})
	return realtime, err
}

// burst sends one round's frames to a way's node and returns the ns per frame:
// the median of chunks, since a chunk may be disturbed.
func (w *frameWay) burst(kind frameKind) (float64, error) {
	yield()
	s := w.sends[kind]
	if err := s.send(frameWarmup / frameChunk); err != nil {
		return 0, err
	}
	var chunks []float64
	for range frameBurst / frameChunk {
		began := time.Now()
		if err := s.send(1); err != nil {
			return 0, err
		}
		chunks = append(chunks, float64(time.Since(began).Nanoseconds())/frameChunk)
	}
	return median(chunks), nil
}

// over are a way's times over those of another in the same rounds.
func (w *frameWay) over(kind frameKind, base *frameWay) []float64 {
	var diffs []float64
	if base == nil {
		return nil
	}
	for i, ns := range w.took[kind] {
		diffs = append(diffs, ns-base.took[kind][i])
	}
	return diffs
}

// table sets the ways beside each other.
func (f *frameLab) table() table {
	t := table{
		Columns: []column{
			{Name: "foreign", Unit: "ns"}, {Name: "÷ xt_cluster", digits: 2},
			{Name: "all of it", Unit: "ns"}, {Name: "own", Unit: "ns"},
		},
		Notes: []string{
			fmt.Sprintf("Foreign: over a bare drop at the hook where the rules stand. All of it: over a drop at netdev ingress. Own: over a node without rules. Medians of %d interleaved rounds of %d frames.", frameRounds, frameBurst),
			fmt.Sprintf("TCP segments of %d clients and ports over veth, in port mode with %d buckets and a lease; xt_cluster and Pacemaker go by the source address, among %d nodes.", framePool, buckets, frameNodes),
			"Own frames are dropped at the input hook, so no flow is ever known to conntrack, which Earshot and xt_cluster use: each frame pays for a new one. A bare drop at ingress took " +
				fmt.Sprintf("%.0f ns, sending and veth included.", median(f.way(wayIngressDrop).took[foreignFrames])),
		},
	}
	xt := median(f.overBase(wayXTCluster))
	for _, w := range f.ways {
		if w.base == "" {
			continue
		}
		foreign := f.overBase(w.name)
		t.Rows = append(t.Rows, row{Name: w.name, Samples: foreign, Values: []figure{
			figure(median(foreign)), figure(median(foreign) / xt),
			figure(median(w.over(foreignFrames, f.way(wayIngressDrop)))),
			figure(median(w.over(ownFrames, f.way(wayNothing)))),
		}})
	}
	return t
}

// overBase are the way's times for foreign frames over the bare drop at its hook.
func (f *frameLab) overBase(name string) []float64 {
	w := f.way(name)
	if w == nil {
		return nil
	}
	return w.over(foreignFrames, f.way(w.base))
}
