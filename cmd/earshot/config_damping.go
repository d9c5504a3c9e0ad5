package main

import (
	"strconv"
	"time"

	"earshot/coordinator"
	"earshot/hashmode"
	"earshot/raftstore"
)

const (
	maxMature = 10 * time.Minute
	maxRound  = time.Hour
)

// damping reads how much patience the plan is to have.
func (l *loader) damping(raw rawConfig) coordinator.Damping {
	d := coordinator.Damping{
		Mature: l.between("mature", raw.Mature, 0, maxMature),
		Round:  l.between("round", raw.Round, 0, maxRound),
	}
	var err error
	d.MovesPerRound, err = strconv.Atoi(raw.MovesPerRound)
	if err != nil || d.MovesPerRound < 0 || d.MovesPerRound > hashmode.MaxBuckets {
		l.refuse("moves_per_round", "%s is out of range (0 to %d; 0 is no bound)", raw.MovesPerRound, hashmode.MaxBuckets)
	}
	return d
}

// between reads a duration within limits.
func (l *loader) between(key, s string, least, most time.Duration) time.Duration {
	d := l.duration(key, s)
	if !l.refused(key) && (d < least || d > most) {
		l.refuse(key, "%v is out of range (%v to %v)", d, least, most)
	}
	return d
}

// prefer reads which buckets this node would rather have. It is no part of a
// service's definition: nodes say it each for themselves.
func (l *loader) prefer(raw map[string]rawService, definitions []raftstore.Definition) map[string]string {
	var all map[string]string
	for _, d := range definitions {
		text := raw[d.Name].Prefer
		if text == "" {
			continue
		}
		key := serviceKey(d.Name, "prefer")
		set, err := hashmode.ParseSet(text, max(d.Buckets, 1))
		if err != nil {
			l.refuse(key, "%v", err)
			continue
		}
		if all == nil {
			all = map[string]string{}
		}
		all[d.Name] = set.String()
	}
	return all
}
